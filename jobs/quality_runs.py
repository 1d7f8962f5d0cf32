"""ops.quality_runs: a row for each table, or the ledger, that a report has looked at; once for a run id."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from headwater.clock import utc_now
from headwater.tables import append_rows, ensure_table, exists, read_few, read_whole
from headwater.version import CODE_VERSION
from jobs.queries import Context
from schemas.expectations import GATE
from schemas.tables import QUALITY_RUNS

_MOMENT = pa.timestamp("us", tz="UTC")
_FAILURE = pa.struct(
    [
        *[(name, pa.string()) for name in ("expectation", "column", "severity")],
        ("unexpected", pa.int64()),
        ("share", pa.float64()),
        *[(name, pa.string()) for name in ("stream", "tenant_id", "message")],
    ]
)
SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("table", pa.string()),
        ("table_version", pa.int64()),
        ("suite", pa.string()),
        ("rows", pa.int64()),
        ("rows_taken", pa.int64()),
        ("how", pa.string()),
        ("passed", pa.bool_()),
        ("expectations", pa.int32()),
        ("failed", pa.int32()),
        ("pass_share", pa.float64()),
        ("failures", pa.list_(_FAILURE)),
        ("tracked", pa.bool_()),
        ("started_at", _MOMENT),
        ("ended_at", _MOMENT),
        ("code_version", pa.string()),
    ]
)


@dataclass(frozen=True)
class Failure:
    """An expectation, or a check of the ledger, that was not met. `column`: what it is about."""

    expectation: str
    column: str
    severity: str
    unexpected: int | None = None
    share: float | None = None
    stream: str | None = None
    tenant_id: str | None = None
    message: str = ""


@dataclass(frozen=True)
class QualityRun:
    """A row of the table."""

    run_id: str
    table: str
    table_version: int
    suite: str
    rows: int
    rows_taken: int
    how: str
    expectations: int
    failures: tuple[Failure, ...]
    started_at: datetime
    ended_at: datetime
    tracked: bool = False
    code_version: str = CODE_VERSION

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return not self.broken

    @property
    def broken(self) -> tuple[Failure, ...]:
        """The gates that failed."""
        return tuple(failure for failure in self.failures if failure.severity == GATE)

    @property
    def pass_share(self) -> float:
        """Of the expectations; 1 where there is none."""
        return 1 - len(self.failures) / self.expectations if self.expectations else 1.0

    def as_row(self) -> dict[str, Any]:
        told = {"passed": self.passed, "failed": len(self.failures), "pass_share": self.pass_share}
        return {**asdict(self), **told}


def record(context: Context, run: QualityRun) -> None:
    """Append it; a second time for the same run id and table writes nothing."""
    ensure_table(context.spark, context.settings, QUALITY_RUNS)
    table = pa.Table.from_pylist([replace(run, ended_at=utc_now()).as_row()], schema=SCHEMA)
    mark = (f"report.{run.run_id}.{run.table}", 0)
    append_rows(context.spark, table, context.settings, QUALITY_RUNS.full_name, mark)
    context.written.update((QUALITY_RUNS.full_name,))


def recorded(context: Context) -> dict[str, QualityRun]:
    """What an earlier attempt of this very run has recorded, by table."""
    spark, settings, name = context.spark, context.settings, QUALITY_RUNS.full_name
    if not exists(spark, settings, name):
        return {}
    rows = read_few(spark, settings, name, SCHEMA.names, ("run_id", context.run_id))
    return {run.table: run for run in _runs(rows)}


def newest(context: Context, most: int) -> dict[str, list[QualityRun]]:
    """The newest so many runs of each table, the oldest of them first."""
    spark, settings, name = context.spark, context.settings, QUALITY_RUNS.full_name
    if not exists(spark, settings, name):
        return {}
    found: dict[str, list[QualityRun]] = {}
    for run in sorted(_runs(read_whole(spark, settings, name, SCHEMA.names)), key=lambda run: run.started_at):
        found.setdefault(run.table, []).append(run)
    return {table: runs[-most:] for table, runs in sorted(found.items())}


def _runs(rows: pa.Table) -> Sequence[QualityRun]:
    derived = ("passed", "failed", "pass_share")
    return [
        QualityRun(
            **{
                **{name: value for name, value in row.items() if name not in derived},
                "failures": tuple(Failure(**failure) for failure in row["failures"]),
            }
        )
        for row in rows.to_pylist()
    ]
