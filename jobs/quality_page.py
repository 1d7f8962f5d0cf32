"""index.html of the report's folder: the newest look at each table, what failed, and how streams go.

One file that needs nothing else. Beside it are the Data Docs of each run, of which so many are kept.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from headwater.quality_settings import Quality
from headwater.version import CODE_VERSION
from jobs.quality_chart import chart
from jobs.quality_ledger import Check
from jobs.quality_runs import Failure, QualityRun
from jobs.quality_suite import results_page
from schemas.expectations import GATE
from sources.ledger_days import ALL, Counts, Series

INDEX = "index.html"
# Of failures, and of streams with their tenants; those that failed come first.
MOST_ROWS = 300
_DOCS = "docs"


@dataclass(frozen=True)
class TableEntry:
    """A table's newest run, and those before it, the oldest first."""

    runs: Sequence[QualityRun]
    docs: str | None

    @property
    def run(self) -> QualityRun:
        return self.runs[-1]

    @property
    def chart(self) -> Markup:
        shares = [run.pass_share for run in self.runs]
        told = f"Share that passed in {len(shares)} runs: {_share(shares[0])} to {_share(shares[-1])}"
        return chart(shares, 0.0, 1.0, told)


@dataclass(frozen=True)
class StreamEntry:
    """A stream of a tenant: its checks by measure, and rows by day, the oldest first."""

    stream: str
    tenant_id: str
    checks: dict[str, Check]
    days: Sequence[tuple[date, int]]

    @property
    def failed(self) -> bool:
        return any(not check.passed for check in self.checks.values())

    @property
    def chart(self) -> Markup:
        rows = [rows for _, rows in self.days]
        told = f"Rows of {len(rows)} days: {min(rows):,} to {max(rows):,}" if rows else ""
        return chart(rows, 0.0, float(max(rows, default=0)), told)


def docs_folder(settings: Quality, run: QualityRun) -> Path:
    """Where the Data Docs of a run are. A run's id may be any text; a name of a folder is made of it."""
    name = hashlib.sha256(run.run_id.encode()).hexdigest()[:8]
    return settings.root / _DOCS / run.table / f"{run.started_at:%Y%m%dT%H%M%S}-{name}"


def trim_docs(settings: Quality, table: str) -> None:
    """Keep the newest Data Docs of a table; drafts that were left behind go, too."""
    root = settings.root / _DOCS / table
    folders = sorted(root.iterdir()) if root.is_dir() else []
    kept = [folder for folder in folders if not folder.name.startswith(".")][-settings.keep_runs :]
    for folder in folders:
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def write_page(
    settings: Quality,
    runs: dict[str, list[QualityRun]],
    found: Sequence[Series],
    checks: Sequence[Check],
    now: datetime,
) -> Path:
    """Write it in place of the one before; where it is."""
    tables = [TableEntry(mine, _link(settings, mine[-1])) for mine in runs.values()]
    failures = [(entry.run.table, failure) for entry in tables for failure in entry.run.failures]
    failures.sort(key=_gates_first)
    streams = sorted(_streams(settings, found, checks, now), key=lambda entry: not entry.failed)
    html = _environment.get_template("quality.html").render(
        made_at=now,
        broken=sum(len(entry.run.broken) for entry in tables),
        keep_runs=settings.keep_runs,
        tables=tables,
        failures=failures[:MOST_ROWS],
        failures_left=max(0, len(failures) - MOST_ROWS),
        streams=streams[:MOST_ROWS],
        streams_left=max(0, len(streams) - MOST_ROWS),
        code_version=CODE_VERSION,
    )
    settings.root.mkdir(parents=True, exist_ok=True)
    page, draft = settings.root / INDEX, settings.root / f".{INDEX}.{os.getpid()}"
    draft.write_text(html, encoding="utf-8")
    draft.replace(page)
    return page


def _gates_first(entry: tuple[str, Failure]) -> bool:
    return entry[1].severity != GATE


def _link(settings: Quality, run: QualityRun) -> str | None:
    page = results_page(docs_folder(settings, run))
    return str(page.relative_to(settings.root)) if page else None


def _streams(
    settings: Quality, found: Sequence[Series], checks: Sequence[Check], now: datetime
) -> list[StreamEntry]:
    by_place: dict[tuple[str, str], dict[str, Check]] = {}
    for check in checks:
        by_place.setdefault((check.stream, check.tenant_id), {})[check.measure] = check
    made = []
    for series in found:
        first = max(min(series.days), now.date() - timedelta(weeks=settings.ledger.weeks))
        # Today is not over.
        span = range((now.date() - first).days)
        days = [(day, series.days.get(day, Counts()).in_rows) for n in span if (day := first + timedelta(n))]
        mine = by_place.get((series.stream, series.tenant_id), {})
        made.append(StreamEntry(series.stream, series.tenant_id, mine, days))
    return made


def _cell(check: Check | None) -> Markup:
    """A measure, in red or brown where it failed, with the reason in words."""
    if check is None:
        return Markup('<td class="number"></td>')
    kind = "" if check.passed else " bad" if check.severity == GATE else " warn"
    why = (
        ""
        if check.passed
        else Markup('<span class="why">{}: {}</span>').format(check.severity, check.message)
    )
    z = "" if check.z is None else f", z {check.z:.1f}"
    return Markup('<td class="number{}">{}{}{}</td>').format(kind, _told(check), z, why)


def _told(check: Check) -> str:
    if check.measure == "freshness":
        return f"{check.value:.1f} h ago"
    return f"{check.value:,.0f}" if check.measure == "volume" else _share(check.value)


def _share(value: float) -> str:
    return f"{value:.1%}"


def _moment(moment: datetime) -> str:
    return f"{moment:%-d %b %Y, %H:%M} UTC"


def _tenant(name: str) -> str:
    return "all tenants" if name == ALL else name


_environment = Environment(
    loader=PackageLoader("jobs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_environment.filters |= {"share": _share, "moment": _moment, "tenant": _tenant}
_environment.globals["cell"] = _cell
