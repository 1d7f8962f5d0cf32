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
from typing import Any, NamedTuple

from psycopg import sql
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from headwater.postgres import connected, writer_conninfo
from headwater.settings import Settings
from jobs.chosen import ALL, Chosen
from jobs.maintain import kept_from
from schemas.tables import Table
from sinks.postgres_mend import TIMES, key_digest, text_of
from sinks.postgres_tables import PostgresTable

PAGE = 5000
_EXACT = DecimalContext(prec=100_000)


class Found(NamedTuple):
    """A row of a destination: the SHA-256 of its key, a digest of the columns whose text is the same
    everywhere, the texts that must be understood first, version and token as `Seen` has them. What is
    `fading` goes away by itself soon: it may be there or not."""

    key: bytes
    strict: bytes
    loose: tuple[str | None, ...]
    version: Any
    token: Any = None
    fading: bool = False


def _all(rows: DataFrame) -> DataFrame:
    return rows


def _for_ever(_: Settings) -> None:
    return None


def _row_version() -> Column:
    return F.col("row_version")


@dataclass(frozen=True)
class Side:
    """A destination's rows of `source`. `text` is the lake's text form of a column; columns that are `loose`
    have many forms. `name` is how it is told of. `expected` picks the rows that it must have. Of rows with
    one row_version that with the most in `ties` is the newest; null is 0. Events from before `since` are not
    compared: a destination need not keep them. `version` is what the destination tells older rows by.
    `rows` may give more than was chosen by name. `spread` names a column with a UUID made of the key, where
    the destination can choose a sample by that and not by the key's digest."""

    name: str
    source: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]
    text: Callable[[str], Column]
    loose: tuple[str, ...]
    rows: Callable[[Settings, Chosen], Iterator[Found]]
    expected: Callable[[DataFrame], DataFrame] = _all
    ties: tuple[str, ...] = ()
    since: Callable[[Settings], date | None] = _for_ever
    version: Callable[[], Column] = _row_version
    spread: str | None = None

    def newest(self) -> Column:
        """What is highest in the newest row of a key."""
        ties = [F.greatest(F.col(name), F.lit(0)).alias(name) for name in self.ties]
        return F.struct("row_version", *ties)

    def key_digest(self) -> Column:
        """Of a row of `source`: SHA-256 of the key's texts with a NUL between."""
        return F.unhex(self._key_hex())

    def drawn(self) -> Column:
        """Of a row of `source`: the text that says whether it is in a sample."""
        return F.col(self.spread) if self.spread else self._key_hex()

    def _key_hex(self) -> Column:
        return F.sha2(F.concat_ws("\0", *map(self.text, self.key)), 256)


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
        return (F.unix_micros(column) if column in TIMES else F.col(column)).cast("string")

    def rows(settings: Settings, chosen: Chosen = ALL) -> Iterator[Found]:
        conninfo = writer_conninfo(settings.postgres, "headwater reconcile", "")
        with connected(conninfo, f"{table.schema}.{table.name}") as connection, connection.transaction():
            with connection.cursor(name="reconcile") as cursor:
                cursor.itersize = PAGE
                query = _query(table, strict, loose) + _condition(table, chosen, since(settings))
                for key, version, strict_digest, *texts in cursor.execute(query):
                    yield Found(key, strict_digest, tuple(texts), version)

    return Side(name, source, tuple(table.key), strict, text, loose, rows, expected, since=since)


def events_side(name: str, source: Table, table: PostgresTable) -> Side:
    """The same of a table that has each event once, with what was said of it first."""

    def first(rows: DataFrame) -> DataFrame:
        told = Window.partitionBy("tenant_id", "event_id").orderBy("refined_at", "row_version")
        return rows.withColumn("nth", F.row_number().over(told)).where("nth = 1").drop("nth")

    return postgres_side(name, source, table, first, kept_from)


def _query(table: PostgresTable, strict: tuple[str, ...], loose: tuple[str, ...]) -> sql.Composed:
    texts = [
        sql.SQL("host({})" if c == "ip_address" else "{}::text").format(sql.Identifier(c)) for c in loose
    ]
    return sql.SQL("SELECT {key}, row_version, decode(md5({digest}), 'hex'){texts} FROM {table}").format(
        key=key_digest(table.key),
        digest=sql.SQL(" || ").join(map(_framed, strict)),
        texts=sql.SQL("").join(sql.SQL(", ") + text for text in texts),
        table=sql.Identifier(table.schema, table.name),
    )


def _condition(table: PostgresTable, chosen: Chosen, first: date | None) -> sql.Composed:
    """The server digests the keys of all rows, and the rest only of those that it sends."""
    key, terms = key_digest(table.key), [sql.SQL("true").format()]
    if first:
        terms.append(sql.SQL("event_timestamp >= {}").format(first))
    if chosen.below:
        terms.append(sql.SQL("encode({}, 'hex') < {}").format(key, chosen.below))
    if chosen.few is not None:
        terms.append(sql.SQL("{} = ANY ({}::bytea[])").format(key, sorted(chosen.few)))
    return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(terms)


def _framed(name: str) -> sql.Composed:
    text = sql.SQL("coalesce(octet_length({0}) || ':' || {0}, '-')")
    return text.format(text_of(name))
