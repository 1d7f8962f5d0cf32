"""Lines for COPY, sent to PostgreSQL by a task; and how rows of files become such lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from headwater.postgres import sqlstate_of


@dataclass(frozen=True)
class CopyTarget:
    """Where a task sends its lines: a connection string (with the password, never shown) and the COPY."""

    conninfo: str
    statement: bytes

    def __repr__(self) -> str:
        return "CopyTarget(…)"


class Lines(NamedTuple):
    """So many rows, as COPY reads them."""

    rows: int
    payload: bytes | memoryview


@dataclass(frozen=True)
class Sent:
    """What a task did: rows committed, the transaction they were written in, or the fault's SQLSTATE."""

    rows: int
    transaction: str | None
    sqlstate: str | None


def send(target: CopyTarget, lines: Iterable[Lines]) -> Sent | None:
    """COPY the lines, in one transaction. Runs in a Python worker. None: no line, so no connection.

    A fault is returned, not raised: Spark would log its text, which quotes rows.
    """
    filled = (part for part in lines if part.rows)
    first = next(filled, None)
    if first is None:
        return None
    rows = 0
    try:
        with psycopg.connect(target.conninfo) as connection, connection.cursor() as cursor:
            with cursor.copy(target.statement) as copy:
                for part in chain((first,), filled):
                    copy.write(part.payload)
                    rows += part.rows
            found = cursor.execute("SELECT pg_current_xact_id()::xid::text").fetchone()
    except psycopg.Error as fault:
        return Sent(0, None, sqlstate_of(fault))
    return Sent(rows, found[0] if found else None, None)


def row_lines(batches: Iterable[pa.RecordBatch]) -> Iterator[Lines]:
    """A line of each row of a file: content_hash, data, line. Canonical JSON holds no tab and no line end."""
    for batch in batches:
        data = pc.replace_substring(batch["data"], "\\", "\\\\")
        line = batch["line"].cast(pa.string())
        joined = ("\\\\x", batch["content_hash"], "\t", data, "\t", line, "\n", "")
        yield lines_of(pc.binary_join_element_wise(*joined))


def lines_of(texts: pa.Array) -> Lines:
    """All texts at once: Arrow keeps a string column's values one behind the other."""
    column = texts.cast(pa.string())
    _, offsets, values = column.buffers()
    bounds = memoryview(offsets).cast("i")
    held = memoryview(values)[bounds[column.offset] : bounds[column.offset + len(column)]]
    return Lines(len(column), bytes(held))
