"""Lines of COPY's text format: made by Spark's own expressions, sent to PostgreSQL by a task.

A Python task only hands Arrow's buffer to the server.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import psycopg
import pyarrow as pa
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, StringType, StructType, TimestampNTZType, TimestampType

from headwater.clock import ISO_MICROSECONDS
from headwater.errors import SetupError
from headwater.postgres import sqlstate_of

NULL = "\\N"
_LAYOUTS = 64
# Backslash first: the others put backslashes in.
ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))
BAD_TEXT = "22021"  # character_not_in_repertoire: a NUL, or bytes that are not UTF-8


@dataclass(frozen=True)
class CopyTarget:
    """Where a task sends its lines: a connection string (with the password, never shown) and the COPY."""

    conninfo: str
    statement: bytes

    def __repr__(self) -> str:
        return "CopyTarget(…)"


@dataclass(frozen=True)
class Sent:
    """What a task did: rows committed, the transaction they were written in, or the fault's SQLSTATE."""

    rows: int
    transaction: str | None
    sqlstate: str | None


def copied_columns(schema: StructType, columns: Sequence[str]) -> Column:
    """The columns as COPY's text format has them in a line, without the newline."""
    kinds = {field.name: field.dataType for field in schema}
    return _copied_columns(tuple((name, kinds[name]) for name in columns))


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
