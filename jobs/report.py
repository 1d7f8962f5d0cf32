"""report: tables at their newest version, and the ledger → ops.quality_runs, MLflow, Data Docs, one page.

A row for each table and run id, written last of all that is told of a table: a run that was cut short looks
at those it has no row of, and a second one with its id at none. Every table is looked at before a gate that
failed ends the run with exit 3.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from headwater.clock import utc_now
from headwater.errors import QualityError, SetupError
from headwater.log import logger
from headwater.tables import exists, table_version
from jobs.quality_ledger import Check, ledger_checks
from jobs.quality_mlflow import Tracker
from jobs.quality_page import docs_folder, trim_docs, write_page
from jobs.quality_runs import Failure, QualityRun, newest, record, recorded
from jobs.quality_snapshot import ALL, taken
from jobs.quality_suite import Finding, validate
from jobs.queries import Context
from schemas.comments import lake_tables
from schemas.expectation_files import suites
from schemas.expectations import Suite
from schemas.tables import LEDGER
from sources.ledger_days import ALL as EVERYBODY
from sources.ledger_days import Series, ledger_days

_log = logger(__name__)
_TOLD = 5  # gates in the error's text


def report(context: Context, tables: Sequence[str]) -> dict[str, Any]:
    """What became of each table; none named: all that have a suite, and the ledger. Raises QualityError where
    a gate failed, SetupError for a table without a suite or that is not there."""
    settings, now = context.settings.quality, utc_now()
    known = suites(settings.suites)
    chosen = _chosen(context, tables, known)
    series = ledger_days(context.settings, now, settings.ledger.weeks)
    checks = ledger_checks(series, now, settings.ledger)
    done, tracker = recorded(context), Tracker(settings)
    runs = []
    for number, name in enumerate(chosen, 1):
        run = done.get(name)
        if run is None:
            is_ledger = name == LEDGER.full_name
            run = _of_ledger(context, series, checks) if is_ledger else _of_table(context, name, known[name])
            run = replace(run, tracked=tracker.track(run))
            record(context, run)
        context.totals.add(rows_in=run.rows_taken)
        _tell(run, f"{number}/{len(chosen)}")
        runs.append(run)
    page = write_page(settings, newest(context, settings.keep_runs), series, checks, utc_now())
    _log.info("reported", page=str(page), tables=len(runs))
    _judge(runs)
    return {"report": {run.table: _short(run) for run in runs}}


def _chosen(context: Context, tables: Sequence[str], known: dict[str, Suite]) -> list[str]:
    names = [*known, LEDGER.full_name]
    for name in tables:
        if name not in names:
            raise SetupError(f"{name} has no suite; there are: {', '.join(names)}")
    there = {name for name in names if exists(context.spark, context.settings, name)}
    if missing := [name for name in tables if name not in there]:
        raise SetupError(f"{', '.join(missing)}: there is no such table in the lake yet")
    return list(dict.fromkeys(tables)) or [name for name in names if name in there]


def _of_table(context: Context, name: str, suite: Suite) -> QualityRun:
    """Rows, Data Docs and what was not met."""
    table = next(table for table in lake_tables() if table.full_name == name)
    rules = tuple(one for one in suite.expectations if one.holds)
    began, settings = utc_now(), context.settings.quality
    with taken(context, table, rules) as rows:
        run = QualityRun(
            context.run_id, name, rows.version, suite.name, rows.rows, rows.rows_taken, rows.how,
            len(suite.expectations), (), began, began,
        )  # fmt: skip
        found = validate(name, rows.frame, suite, docs_folder(settings, run))
    trim_docs(settings, name)
    return replace(run, failures=tuple(_failure(one) for one in found if not one.passed))


def _failure(found: Finding) -> Failure:
    one = found.expectation
    return Failure(
        one.type if one.holds is None else "rule",
        one.column, one.severity, found.unexpected, found.share, message=found.message or one.why,
    )  # fmt: skip


def _of_ledger(context: Context, series: Sequence[Series], checks: Sequence[Check]) -> QualityRun:
    spark, settings, name, began = context.spark, context.settings, LEDGER.full_name, utc_now()
    rows = sum(counts.in_rows for one in series if one.tenant_id == EVERYBODY for counts in one.days.values())
    failures = tuple(
        Failure(check.measure, "", check.severity, None, None, check.stream, check.tenant_id, check.message)
        for check in checks
        if not check.passed
    )
    version = table_version(spark, settings, name)
    return QualityRun(
        context.run_id, name, version, "ledger", rows, rows, ALL, len(checks), failures, began, began
    )


def _tell(run: QualityRun, progress: str) -> None:
    _log.info("table_checked", table=run.table, progress=progress, **_short(run))


def _short(run: QualityRun) -> dict[str, Any]:
    told = {"version": run.table_version, "rows": run.rows, "rows_taken": run.rows_taken, "how": run.how}
    shares = {"pass_share": round(run.pass_share, 4), "failed": len(run.failures)}
    return {**told, **shares, "passed": run.passed, "tracked": run.tracked}


def _judge(runs: Sequence[QualityRun]) -> None:
    broken = [f"{run.table}: {_named(failure)}" for run in runs for failure in run.broken]
    if broken:
        more = f", and {len(broken) - _TOLD} more" if len(broken) > _TOLD else ""
        raise QualityError(f"report: {len(broken)} gates failed: {'; '.join(broken[:_TOLD])}{more}")


def _named(failure: Failure) -> str:
    of = failure.column or f"{failure.stream} of {failure.tenant_id}"
    rows = "" if failure.unexpected is None else f" ({failure.unexpected} rows)"
    return f"{failure.expectation} {of}{rows}"
