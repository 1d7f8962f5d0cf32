"""Rows of a batch → staging.<table>, by COPY from the executors.

The lines of COPY's text format are built by Spark's own expressions. A Python task only hands Arrow's buffer
to the server. Every row carries its batch's attempt: rows of a retried, speculative or orphaned task have
another attempt or are doubles, and both are ignored later.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain
from uuid import UUID

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, StringType, TimestampNTZType, TimestampType

from headwater.clock import ISO_MICROSECONDS
from headwater.errors import SetupError
from headwater.postgres import sqlstate_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NULL = "\\N"
_LAYOUTS = 64
# Backslash first: the others put backslashes in.
ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
BAD_TEXT = "22021"  # character_not_in_repertoire: a NUL, or bytes that are not UTF-8
_RESULT = pa.schema(
    [("rows", pa.int64()), ("earliest", pa.int64()), ("latest", pa.int64()), ("sqlstate", pa.string())]
)


@dataclass(frozen=True)
class CopyTarget:
    """Where a task sends its lines: a connection string (with the password, never shown) and the COPY."""

    conninfo: str
    statement: bytes

    def __repr__(self) -> str:
        return "CopyTarget(…)"


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
    kinds = {field.name: field.dataType for field in batch.schema}
    row = _copied_columns(tuple((name, kinds[name]) for name in columns))
    return F.concat(F.lit(f"{attempt}\t"), row, F.lit("\n"))


@lru_cache(maxsize=_LAYOUTS)
def _copied_columns(columns: tuple[tuple[str, DataType], ...]) -> Column:
    """Made once a table: some hundred calls into the JVM, which every small batch would feel."""
    fields = [F.coalesce(copy_text(F.col(name), kind), F.lit(NULL)) for name, kind in columns]
    return F.concat_ws("\t", *fields)


def copy_text(value: Column, kind: DataType) -> Column:
    """A value as COPY's text format wants it; null stays null. Times carry their offset."""
    if isinstance(kind, TimestampType):
        return F.date_format(value, ISO_MICROSECONDS)
    if isinstance(kind, BooleanType):
        return F.substring(value.cast("string"), 1, 1)
    if isinstance(kind, TimestampNTZType):
        raise SetupError("a TIMESTAMP_NTZ cannot be copied: which zone would it be in?")
    text = value.cast("string")
    if not isinstance(kind, StringType):
        return text
    for raw, escaped in ESCAPES:
        text = F.replace(text, F.lit(raw), F.lit(escaped))
    return text


def not_copyable(batch: DataFrame, attempt: UUID, columns: Sequence[str]) -> Column:
    """Whether the row holds a NUL or invalid UTF-8: one such row makes the server refuse a whole COPY."""
    line = copy_line(batch, attempt, columns)
    return line.contains("\0") | ~F.is_valid_utf8(line)


def _task(target: CopyTarget) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _copied(target, batches)

    return run


def _copied(target: CopyTarget, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs in a Python worker. A fault is returned, not raised: Spark would log its text, which quotes rows.

    An empty partition does not connect.
    """
    filled = (batch for batch in batches if batch.num_rows)
    first = next(filled, None)
    if first is None:
        return
    rows, times, state = 0, [], None
    try:
        with psycopg.connect(target.conninfo) as connection, connection.cursor() as cursor:
            with cursor.copy(target.statement) as copy:
                for batch in chain((first,), filled):
                    copy.write(_payload(batch.column(0)))
                    rows += batch.num_rows
                    times.append(pc.min_max(batch.column(1)).as_py())
    except psycopg.Error as fault:
        rows, state = 0, sqlstate_of(fault)
    earliest = min((t["min"] for t in times if t["min"] is not None), default=None)
    latest = max((t["max"] for t in times if t["max"] is not None), default=None)
    yield pa.RecordBatch.from_pydict(
        {"rows": [rows], "earliest": [earliest], "latest": [latest], "sqlstate": [state]}, schema=_RESULT
    )


def _payload(lines: pa.Array) -> bytes:
    """The bytes of all lines at once: Arrow keeps a string column's values one behind the other."""
    column = lines.cast(pa.string())
    _, offsets, values = column.buffers()
    bounds = memoryview(offsets).cast("i")
    return bytes(memoryview(values)[bounds[column.offset] : bounds[column.offset + len(column)]])


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
