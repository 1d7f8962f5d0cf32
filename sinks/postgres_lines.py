"""Rows of files → lines of COPY's text format, sent to PostgreSQL by a task."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from headwater.postgres import sqlstate_of
from sinks.postgres_copy import CopyTarget


@dataclass(frozen=True)
class Sent:
    """What a task did: rows committed, the transaction they were written in, or the fault's SQLSTATE."""

    rows: int
    transaction: str | None
    sqlstate: str | None


def row_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Array]:
    """A line of each row: content_hash, data, line. Canonical JSON holds no tab and no line end."""
    for batch in batches:
        data = pc.replace_substring(batch["data"], "\\", "\\\\")
        line = batch["line"].cast(pa.string())
        yield pc.binary_join_element_wise("\\\\x", batch["content_hash"], "\t", data, "\t", line, "\n", "")


def send(target: CopyTarget, lines: Iterable[pa.Array]) -> Sent | None:
    """COPY the lines, in one transaction. Runs in a Python worker. None: no line, so no connection.

    A fault is returned, not raised: Spark would log its text, which quotes rows.
    """
    filled = (part for part in lines if len(part))
    first = next(filled, None)
    if first is None:
        return None
    rows = 0
    try:
        with psycopg.connect(target.conninfo) as connection, connection.cursor() as cursor:
            with cursor.copy(target.statement) as copy:
                for part in chain((first,), filled):
                    copy.write(_payload(part))
                    rows += len(part)
            found = cursor.execute("SELECT pg_current_xact_id()::xid::text").fetchone()
    except psycopg.Error as fault:
        return Sent(0, None, sqlstate_of(fault))
    return Sent(rows, found[0] if found else None, None)


def _payload(lines: pa.Array) -> bytes:
    """The bytes of all lines at once: Arrow keeps a string column's values one behind the other."""
    column = lines.cast(pa.string())
    _, offsets, values = column.buffers()
    bounds = memoryview(offsets).cast("i")
    return bytes(memoryview(values)[bounds[column.offset] : bounds[column.offset + len(column)]])
