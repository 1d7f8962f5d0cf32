"""Rows and a suite → what Great Expectations finds, and its Data Docs. Only here is that package met.

It counts, and keeps no value: neither results nor pages hold one. It is told not to phone home, and it takes
seconds to import, which only a report waits for.
"""

import logging
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Template
from pyspark.sql import DataFrame

from headwater.log import logger
from schemas.expectations import Expectation, Suite

_log = logger(__name__)
_SITE = "docs"
_COUNTS_ONLY = {"result_format": "BASIC", "partial_unexpected_count": 0, "include_unexpected_rows": False}
_SEVERITY = {"gate": "critical", "warn": "warning"}
# The pages would load scripts, styles and pictures from elsewhere.
_FOREIGN = re.compile(
    r"<script\b[^>]*>.*?</script>|<style\b[^>]*>.*?</style>|<link\b[^>]*>|<img\b[^>]*>|<form\b.*?</form>|<footer\b.*?</footer>"
    r"|<iframe\b.*?</iframe>",
    re.DOTALL,
)
_INDEX = Template(
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data Docs</title></head><body>'
    "<h1>Data Docs</h1><ul>{% for told, page in pages.items() %}"
    '<li><a href="{{ page }}">{{ told }}</a></li>{% endfor %}</ul></body></html>',
    autoescape=True,
)
_STYLE = (resources.files("jobs") / "templates" / "data_docs.css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Finding:
    """What became of one expectation. `unexpected` rows of those looked at; None of a table as a whole."""

    expectation: Expectation
    passed: bool
    unexpected: int | None
    share: float | None
    message: str = ""


def validate(table: str, frame: DataFrame, suite: Suite, docs: Path) -> list[Finding]:
    """Hold the rows against the suite, and write Data Docs to the folder, which appears at once and whole.

    An expectation that cannot be worked out has failed; of such a run there are no Data Docs, for they would
    quote the fault.
    """
    draft = docs.with_name(f".{docs.name}")
    # What the package will have to change some day is its own affair.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        gx = _silent()
        context = _context(gx, draft)
        answer = _run(gx, context, table, frame, suite, docs.name)
        by_subject = {one.subject: one for one in suite.expectations}
        found = [_finding(result, by_subject) for result in answer.results]
        if not any(finding.message for finding in found):
            context.build_data_docs(site_names=[_SITE])
            _publish(draft, docs)
            return found
    _log.warning("no_data_docs", table=table, why="an expectation could not be worked out")
    return found


def _run(gx: Any, context: Any, table: str, frame: DataFrame, suite: Suite, name: str) -> Any:
    batch = context.data_sources.add_spark("lake", persist=False).add_dataframe_asset(table)
    made = context.suites.add(gx.ExpectationSuite(table))
    for one in suite.expectations:
        made.add_expectation_configuration(_configured(one))
    made.save()
    whole = batch.add_batch_definition_whole_dataframe(suite.name)
    run = context.validation_definitions.add(gx.ValidationDefinition(name=table, data=whole, suite=made))
    run_id = gx.RunIdentifier(run_name=name)
    return run.run(batch_parameters={"dataframe": frame}, result_format=_COUNTS_ONLY, run_id=run_id)


def _silent() -> Any:
    """The package, imported with its telemetry off. Its loggers have levels of their own, and tell of a fault
    with its text, which may quote a row, and hundreds of lines at the import: none of it goes on."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    loud = logging.getLogger("great_expectations")
    loud.propagate = False
    if not loud.handlers:
        loud.addHandler(logging.NullHandler())
    import great_expectations

    return great_expectations


def _context(gx: Any, draft: Path) -> Any:
    """One that is kept in memory and ends with the run."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    shutil.rmtree(draft, ignore_errors=True)
    for name in context.get_site_names():
        context.delete_data_docs_site(name)
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(draft)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder", "show_cta_footer": False},
    }
    context.add_data_docs_site(_SITE, site)
    return context


def _configured(one: Expectation) -> Any:
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    notes = [text for text in (one.why, one.holds and f"`{one.holds}`") if text]
    return ExpectationConfiguration(
        type=one.type, kwargs=dict(one.kwargs), severity=_SEVERITY[one.severity], notes=notes or None
    )


def _finding(result: Any, by_subject: dict[tuple[str, str], Expectation]) -> Finding:
    config = result.expectation_config
    one = by_subject[Expectation(config.type, config.kwargs).subject]
    said = result.result or {}
    if result.exception_info and _raised(result.exception_info):
        return Finding(one, False, None, None, "could not be worked out")
    percent = said.get("unexpected_percent")
    share = None if percent is None else percent / 100
    return Finding(one, bool(result.success), said.get("unexpected_count"), share)


def _raised(info: dict[str, Any]) -> bool:
    """Of one fault, or of several by their metrics."""
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(part.get("raised_exception") for part in info.values() if isinstance(part, dict))


def results_page(docs: Path) -> Path | None:
    """The page of a run's results in its Data Docs, if these are kept."""
    return next(iter((docs / "validations").rglob("*.html")), None)


def _index(draft: Path) -> str:
    """Two links: the package's own list is filled in by a script."""
    pages = {"Results": results_page(draft), "Suite": next(iter((draft / "expectations").rglob("*.html")))}
    return str(_INDEX.render(pages={told: page and page.relative_to(draft) for told, page in pages.items()}))


def _publish(draft: Path, docs: Path) -> None:
    """Pages that need nothing but themselves, in place of what was there."""
    shutil.rmtree(draft / "static", ignore_errors=True)
    (draft / "index.html").write_text(_index(draft), encoding="utf-8")
    for page in draft.rglob("*.html"):
        text = _FOREIGN.sub("", page.read_text(encoding="utf-8"))
        page.write_text(text.replace("</head>", f"<style>{_STYLE}</style></head>", 1), encoding="utf-8")
    shutil.rmtree(docs, ignore_errors=True)
    docs.parent.mkdir(parents=True, exist_ok=True)
    draft.rename(docs)
