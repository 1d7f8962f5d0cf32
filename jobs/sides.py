"""What reconcile compares: a table of the lake, and its rows as a destination has them.

A row is a digest of the columns whose text is the same everywhere, and the texts of those that have many
forms: those are brought into one form first.
"""

import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Context as DecimalContext
from decimal import Decimal
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import sql
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headwater.postgres import writer_conninfo
from headwater.settings import Settings
from jobs.maintain import kept_from
from schemas.tables import Table
from sinks.postgres_tables import PostgresTable

PAGE = 5000
_EXACT = DecimalContext(prec=100_000)
# (key's digest, digest of the columns whose text is the same everywhere, texts that must be understood first)
Found = tuple[bytes, bytes, tuple[str | None, ...]]
# A digest is so many bytes: half of a SHA-256.
KEY_BYTES = 16


def _all(rows: DataFrame) -> DataFrame:
    return rows


def _for_ever(_: Settings) -> None:
    return None


@dataclass(frozen=True)
class Side:
    """A destination's rows of `source`. `text` is the lake's text form of a column; columns that are `loose`
    have many forms. `name` is how it is told of. `expected` picks the rows that it must have. Of rows with
    one row_version that with the most in `ties` is the newest; null is 0. Events from before `since` are not
    compared: a destination need not keep them."""

    name: str
    source: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    text: Callable[[str], Column]
    loose: tuple[str, ...]
    rows: Callable[[Settings], Iterator[Found]]
    expected: Callable[[DataFrame], DataFrame] = _all
    ties: tuple[str, ...] = ()
    since: Callable[[Settings], date | None] = _for_ever

    def newest(self) -> Column:
        """What is highest in the newest row of a key."""
        ties = [F.greatest(F.col(name), F.lit(0)).alias(name) for name in self.ties]
        return F.struct("row_version", *ties)

    def key_digest(self) -> Column:
        """Of a row of `source`: SHA-256 of the key's texts with a NUL between, cut."""
        joined = F.concat_ws("\0", *map(self.text, self.key))
        return F.unhex(F.left(F.sha2(joined, 256), F.lit(2 * KEY_BYTES)))


def digest(strict: bytes, loose: Any) -> bytes:
    """A row in 16 bytes."""
    texts = [_canonical(text) for text in loose if text is not None] if any(loose) else []
    shape = "".join("-" if text is None else "+" for text in loose)
    return hashlib.blake2b(strict + "\0".join([shape, *texts]).encode(), digest_size=16).digest()


@lru_cache(maxsize=50_000)
def _canonical(text: str) -> str:
    """One form of a JSON object (numbers by value, keys sorted), of an address, or of a double."""
    if text.startswith("{"):
        value = json.loads(text, parse_float=_number, parse_int=_number)
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    if ":" in text:
        return str(ipaddress.ip_address(text))
    try:
        return repr(float(text))
    except ValueError:
        return text


def _number(text: str) -> str:
    value = Decimal(text)
    return f"number {value.normalize(_EXACT) if value else 0}"


# PostgreSQL: the digest is made by the server; objects, addresses and doubles come as text.

_TIMES = {
    *("received_at", "started_at", "ended_at", "window_start", "window_end"),
    *("event_time", "event_timestamp", "created_at", "updated_at"),
}
_LOOSE = ("metadata", "ip_address", "latency_ms", "avg_latency_ms")


def postgres_side(
    name: str,
    source: Table,
    table: PostgresTable,
    expected: Callable[[DataFrame], DataFrame] = _all,
    since: Callable[[Settings], date | None] = _for_ever,
) -> Side:
    """A table of PostgreSQL against the table of the lake that is delivered to it."""
    named = dict.fromkeys(table.columns)
    strict = tuple(column for column in named if column not in _LOOSE)
    loose = tuple(column for column in _LOOSE if column in named)
    called = dict(table.called)

    def text(column: str) -> Column:
        column = called.get(column, column)
        return (F.unix_micros(column) if column in _TIMES else F.col(column)).cast("string")

    def rows(settings: Settings) -> Iterator[Found]:
        with psycopg.connect(writer_conninfo(settings.postgres, "headwater reconcile", "")) as connection:
            with connection.cursor(name="reconcile") as cursor:
                cursor.itersize = PAGE
                query, first = _query(table, strict, loose), since(settings)
                if first:
                    query += sql.SQL(" WHERE event_timestamp >= {}").format(sql.Literal(first))
                for key, strict_digest, *texts in cursor.execute(query):
                    yield key, strict_digest, tuple(texts)

    return Side(name, source, tuple(table.key), strict, text, loose, rows, expected, since=since)


def events_side(name: str, source: Table, table: PostgresTable) -> Side:
    """The same of a table that has each event once, with what was said of it first."""

    def first(rows: DataFrame) -> DataFrame:
        told = Window.partitionBy("tenant_id", "event_id").orderBy("refined_at", "row_version")
        return rows.withColumn("nth", F.row_number().over(told)).where("nth = 1").drop("nth")

    return postgres_side(name, source, table, first, kept_from)


def _query(table: PostgresTable, strict: tuple[str, ...], loose: tuple[str, ...]) -> sql.Composed:
    key = sql.SQL(" || '\\x00'::bytea || ").join(
        sql.SQL("convert_to({}, 'UTF8')").format(_text(column)) for column in table.key
    )
    texts = [
        sql.SQL("host({})" if c == "ip_address" else "{}::text").format(sql.Identifier(c)) for c in loose
    ]
    return sql.SQL(
        "SELECT substring(sha256({key}) FROM 1 FOR 16), decode(md5({digest}), 'hex'){texts} FROM {table}"
    ).format(
        key=key,
        digest=sql.SQL(" || ").join(map(_framed, strict)),
        texts=sql.SQL("").join(sql.SQL(", ") + text for text in texts),
        table=sql.Identifier(table.schema, table.name),
    )


def _framed(name: str) -> sql.Composed:
    text = sql.SQL("coalesce(octet_length({0}) || ':' || {0}, '-')")
    return text.format(_text(name))


def _text(name: str) -> sql.Composed:
    form = "(extract(epoch FROM {0}) * 1000000)::bigint::text" if name in _TIMES else "{0}::text"
    return sql.SQL(form).format(sql.Identifier(name))
