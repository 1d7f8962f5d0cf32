"""Rows of a batch → staging.<table>, by COPY from the executors (postgres_lines.py).

Every row carries its batch's attempt: rows of a retried, speculative or orphaned task have another attempt or
are doubles, and both are ignored later.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from sinks.postgres_lines import CopyTarget, copied_columns, send

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RESULT = pa.schema(
    [("rows", pa.int64()), ("earliest", pa.int64()), ("latest", pa.int64()), ("sqlstate", pa.string())]
)


@dataclass(frozen=True)
class Staged:
    """What all tasks did: rows committed, their event times, and the first fault's SQLSTATE."""

    rows: int
    earliest: datetime | None
    latest: datetime | None
    sqlstate: str | None


def stage(
    batch: DataFrame, target: CopyTarget, attempt: UUID, columns: Sequence[str], partitions: int
) -> Staged:
    """COPY the batch by at most `partitions` tasks, each one transaction. Server faults come back as data."""
    lines = batch.select(
        copy_line(batch, attempt, columns).alias("line"), F.unix_micros("event_time").alias("micros")
    )
    results = (
        lines.coalesce(partitions)
        .mapInArrow(_task(target), "rows BIGINT, earliest BIGINT, latest BIGINT, sqlstate STRING")
        .collect()
    )
    return _summed(results)


def copy_line(batch: DataFrame, attempt: UUID, columns: Sequence[str]) -> Column:
    """One line of COPY's text format, newline included: the attempt, then the columns."""
    return F.concat(F.lit(f"{attempt}\t"), copied_columns(batch.schema, columns), F.lit("\n"))


def not_copyable(batch: DataFrame, attempt: UUID, columns: Sequence[str]) -> Column:
    """Whether the row holds a NUL or invalid UTF-8: one such row makes the server refuse a whole COPY."""
    line = copy_line(batch, attempt, columns)
    return line.contains("\0") | ~F.is_valid_utf8(line)


def _task(target: CopyTarget) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _copied(target, batches)

    return run


def _copied(target: CopyTarget, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What a task did, in one row; none of an empty partition."""
    times: list[dict[str, int | None]] = []

    def lines() -> Iterator[pa.Array]:
        for batch in batches:
            times.append(pc.min_max(batch.column(1)).as_py())
            yield batch.column(0)

    sent = send(target, lines())
    if sent is None:
        return
    earliest = min((t["min"] for t in times if t["min"] is not None), default=None)
    latest = max((t["max"] for t in times if t["max"] is not None), default=None)
    found = {"rows": [sent.rows], "earliest": [earliest], "latest": [latest], "sqlstate": [sent.sqlstate]}
    yield pa.RecordBatch.from_pydict(found, schema=_RESULT)


def _summed(results: list[Row]) -> Staged:
    earliest = min((r.earliest for r in results if r.earliest is not None), default=None)
    latest = max((r.latest for r in results if r.latest is not None), default=None)
    return Staged(
        rows=sum(r.rows for r in results),
        earliest=_moment(earliest),
        latest=_moment(latest),
        sqlstate=next((r.sqlstate for r in results if r.sqlstate), None),
    )


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(microseconds=micros)
