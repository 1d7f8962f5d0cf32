"""ops.quality_runs without Spark: which share of a table's expectations was met, run by run."""

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from headwater.lake_files import table_files
from headwater.lake_parts import newest_paths
from headwater.lake_rows import reading, rows_of
from headwater.settings import Settings

TABLE = "ops.quality_runs"
MOST_FILES = 500
_BATCH_ROWS = 4096
_TIME = "started_at"
_COLUMNS = pa.schema(
    [
        ("table", pa.string()),
        ("suite", pa.string()),
        (_TIME, pa.timestamp("us", tz="UTC")),
        ("passed", pa.bool_()),
        ("expectations", pa.int64()),
        ("failed", pa.int64()),
        ("pass_share", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Run:
    """One look at a table by one suite; `share` of its expectations, from 0 to 1, was met."""

    table: str
    suite: str | None
    started_at: datetime
    passed: bool
    expectations: int
    failed: int
    share: float


def runs(settings: Settings, since: datetime) -> list[Run] | None:
    """Those from then on, in the order of time; None without the table.

    Raises TransientError while the lake is away, SetupError where it cannot be read without Spark.
    """
    with reading(TABLE):
        files = table_files(settings, TABLE)
        if files is None:
            return None
        paths = newest_paths(files.actions, _TIME, since)[:MOST_FILES]
        rows = [row for path in paths for row in rows_of(files, path, _COLUMNS, _BATCH_ROWS)]
    found = [row for part in rows for row in part.to_pylist() if _is_told(row) and row[_TIME] >= since]
    return [_run(row) for row in sorted(found, key=lambda row: row[_TIME])]


def _is_told(row: dict[str, object]) -> bool:
    return all(row[name] is not None for name in ("table", _TIME, "pass_share"))


def _run(row: dict[str, object]) -> Run:
    counts = {name: row[name] or 0 for name in ("expectations", "failed")}
    told = {name: row[name] for name in ("table", "suite", _TIME)}
    return Run(**told, **counts, passed=bool(row["passed"]), share=row["pass_share"])  # type: ignore[arg-type]  # of _COLUMNS
