"""Rows of a batch → staging.<table>, by COPY from the executors.

Spark hands the columns over as Arrow batches, and Arrow's CSV writer makes COPY's lines of them by column: no
row is touched by Spark's expressions or by Python. Every row carries its batch's attempt: rows of a retried,
speculative or orphaned task have another attempt or are doubles, and both are ignored later.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from pyarrow.csv import WriteOptions, write_csv
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    DataType,
    IntegralType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from headwater.errors import SetupError
from headwater.postgres import Connection, unless_locked
from headwater.worker import forget_archives
from sinks.postgres_lines import CopyTarget, Lines, send

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# One lock per staging table, by its object id.
STAGING_LOCK = "%s::regclass::oid::bigint"
_COLUMNS = 1_024
_WITHOUT_TEXT = (BooleanType, IntegralType, TimestampType)
# What Arrow's writer says as the server reads it; of all else Spark makes texts.
_SAID_BY_ARROW = (StringType, *_WITHOUT_TEXT)
_MICROS = "_event_micros"
_PLAIN = WriteOptions(include_header=False, batch_size=5_000)
BAD_TEXT = "22021"  # character_not_in_repertoire: a NUL, or bytes that are not UTF-8
# A DataFrame, or rows that are on the driver as a pyarrow.Table, which has no types.
Batch = Any
_Task = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]
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
    rows = batch.select(*_copied_columns(batch, columns), F.unix_micros("event_time").alias(_MICROS))
    results = (
        rows.coalesce(partitions)
        .mapInArrow(_task(target, attempt), "rows BIGINT, earliest BIGINT, latest BIGINT, sqlstate STRING")
        .collect()
    )
    return _summed(results)


def stage_here(rows: pa.Table, target: CopyTarget, attempt: UUID, columns: Sequence[str]) -> Staged:
    """The same of rows that are on the driver: one COPY, no task of Spark's."""
    told = pa.table({name: plain(rows[name]) for name in columns})
    sent = send(target, (Lines(part.num_rows, csv_lines(part, attempt)) for part in told.to_batches()))
    if sent is None:
        return Staged(0, None, None, None)
    times = pc.min_max(rows["event_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())).as_py()
    return Staged(sent.rows, _moment(times["min"]), _moment(times["max"]), sent.sqlstate)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column whose values Arrow writes as the server reads them; all else as text."""
    kind = column.type
    said = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_timestamp)
    return column if any(test(kind) for test in said) else column.cast(pa.string())


def sweep(connection: Connection, staging: sql.Identifier, attempt: UUID) -> None:
    """Empty staging: all of it when no one else writes (orphans too, no bloat), else only our own rows.

    Nothing depends on it: an attempt's rows are never read again. "No one else" is what the shared lock
    tells that every write holds from before its COPY until its commit.
    """
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '1s'")
        asked = f"SELECT pg_try_advisory_xact_lock({STAGING_LOCK})"
        if connection.execute(asked, (staging.as_string(),)).fetchone() == (True,):
            with unless_locked(connection):
                connection.execute(sql.SQL("TRUNCATE {}").format(staging))
                return
        connection.execute(sql.SQL("DELETE FROM {} WHERE attempt = %s").format(staging), (attempt,))


def storable(
    batch: Batch, columns: Sequence[str], told: Sequence[str]
) -> tuple[Batch, list[tuple[Any, ...]]]:
    """The rows that PostgreSQL can store, and what is to be told of the others."""
    if isinstance(batch, pa.Table):
        here = not_copyable_here(batch, columns)
        bad = batch.filter(here).select(list(told)).to_pylist()
        return batch.filter(pc.invert(here)), [tuple(row.values()) for row in bad]
    unfit = not_copyable(batch, columns)
    return batch.where(~unfit), [tuple(row) for row in batch.where(unfit).select(*told).collect()]


def not_copyable_here(rows: pa.Table, columns: Sequence[str]) -> pa.Array:
    """`not_copyable` of rows that are on the driver, a boolean for each."""
    texts = [
        rows[name].cast(pa.binary()).to_pylist() for name in columns if pa.types.is_string(rows[name].type)
    ]
    return pa.array([any(map(_unfit, row)) for row in zip(*texts, strict=True)], pa.bool_())


def _unfit(text: bytes | None) -> bool:
    try:
        return text is not None and "\0" in text.decode()
    except UnicodeDecodeError:
        return True


def not_copyable(batch: DataFrame, columns: Sequence[str]) -> Column:
    """Whether the row holds a NUL or invalid UTF-8: one such row makes the server refuse a whole COPY."""
    kinds = {field.name: field.dataType for field in batch.schema}
    texts = [F.col(name).cast("string") for name in columns if not isinstance(kinds[name], _WITHOUT_TEXT)]
    row = F.concat_ws("\t", *texts)
    return row.contains("\0") | ~F.is_valid_utf8(row)


def _copied_columns(batch: DataFrame, columns: Sequence[str]) -> list[Column]:
    kinds = {field.name: field.dataType for field in batch.schema}
    return [_copied_column(name, kinds[name]) for name in columns]


@lru_cache(maxsize=_COLUMNS)
def _copied_column(name: str, kind: DataType) -> Column:
    """Made once: calls into the JVM, which every small batch would feel."""
    if isinstance(kind, TimestampNTZType):
        raise SetupError("a TIMESTAMP_NTZ cannot be copied: which zone would it be in?")
    column = F.col(name)
    return column if isinstance(kind, _SAID_BY_ARROW) else column.cast("string").alias(name)


def csv_lines(rows: pa.RecordBatch, attempt: UUID) -> memoryview:
    """The rows as COPY reads CSV, each behind its attempt. Times carry their offset.

    A text is in quotes, so an empty one differs from null, of which nothing is written.
    """
    told = [_instants(column) if pa.types.is_timestamp(column.type) else column for column in rows.columns]
    marks = pa.repeat(str(attempt), rows.num_rows)
    lines = pa.BufferOutputStream()
    write_csv(
        pa.RecordBatch.from_arrays([marks, *told], names=["attempt", *rows.schema.names]), lines, _PLAIN
    )
    return memoryview(lines.getvalue())


def _instants(times: pa.Array) -> pa.Array:
    """In UTC, with microseconds. The zone is not looked up: a machine may have no list of zones."""
    plain = times.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(plain, "Z", "")


def _task(target: CopyTarget, attempt: UUID) -> _Task:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        forget_archives()
        yield from _copied(target, attempt, batches)

    return run


def _copied(target: CopyTarget, attempt: UUID, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs in a Python worker."""
    times = []

    def lines() -> Iterator[Lines]:
        for batch in batches:
            times.append(pc.min_max(batch.column(_MICROS)).as_py())
            yield Lines(batch.num_rows, csv_lines(batch.drop_columns(_MICROS), attempt))

    sent = send(target, lines())
    if sent is None:
        return
    earliest = min((t["min"] for t in times if t["min"] is not None), default=None)
    latest = max((t["max"] for t in times if t["max"] is not None), default=None)
    told = {"rows": sent.rows, "earliest": earliest, "latest": latest, "sqlstate": sent.sqlstate}
    yield pa.RecordBatch.from_pylist([told], schema=_RESULT)


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
