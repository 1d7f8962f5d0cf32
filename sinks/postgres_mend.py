"""Rows of PostgreSQL by the digest of their key: to let some give way to the lake's, and to take some away.

A statement finds its rows by a pass over the table, and leaves alone each whose version is not the one that
was seen: whoever has written meanwhile was later.
"""

from collections.abc import Iterator, Mapping, Sequence

from psycopg import sql

from headwater.postgres import Connection
from sinks.base import Seen

# Digests that go with one statement.
_AT_ONCE = 100_000
_SEEN = "unnest(%s::bytea[], %s::bigint[]) AS seen (key, version)"
TIMES = {
    *("received_at", "started_at", "ended_at", "window_start", "window_end"),
    *("event_time", "event_timestamp", "created_at", "updated_at"),
}


def text_of(column: str) -> sql.Composed:
    """A column as the text that all stores have of it; a time in microseconds since 1970."""
    form = "(extract(epoch FROM {0}) * 1000000)::bigint::text" if column in TIMES else "{0}::text"
    return sql.SQL(form).format(sql.Identifier(column))


def key_digest(key: Sequence[str]) -> sql.Composed:
    """SHA-256 of the key's texts with NUL between."""
    texts = [sql.SQL("convert_to({}, 'UTF8')").format(text_of(column)) for column in key]
    return sql.SQL("sha256({})").format(sql.SQL(" || '\\x00'::bytea || ").join(texts))


def give_way(
    connection: Connection, table: sql.Identifier, key: Sequence[str], wrong: Sequence[Seen]
) -> None:
    """Make these rows older than what the lake has, so that an upsert replaces them."""
    lowered = sql.SQL(
        "UPDATE {table} SET row_version = seen.due - 1"
        " FROM unnest(%s::bytea[], %s::bigint[], %s::bigint[]) AS seen (key, version, due)"
        " WHERE {digest} = seen.key AND row_version = seen.version"
    ).format(table=table, digest=key_digest(key))
    for part in _parts(wrong):
        connection.execute(lowered, (*_seen(part), [row.due for row in part]))


def rightful_ids(
    table: sql.Identifier, staging: sql.Identifier, key: Sequence[str], types: Mapping[str, str]
) -> sql.Composed:
    """Gives rows that an attempt's staged ones are about to replace their ids, which an upsert leaves."""
    same = sql.SQL("kept.{0} = staged.{0}::{1}")
    return sql.SQL(
        "UPDATE {table} AS kept SET id = staged.id::{kind} FROM {staging} AS staged"
        " WHERE staged.attempt = %s AND {same} AND kept.row_version < staged.row_version::bigint"
        " AND kept.id <> staged.id::{kind}"
    ).format(
        table=table,
        staging=staging,
        kind=sql.SQL(types["id"]),
        same=sql.SQL(" AND ").join(same.format(sql.Identifier(c), sql.SQL(types[c])) for c in key),
    )


def withdraw(connection: Connection, deletion: sql.Composed, extra: Sequence[Seen]) -> int:
    """Run a deletion over all of these, in the connection's transaction; how many went."""
    return sum(_first(connection, deletion, part) for part in _parts(extra))


def _first(connection: Connection, deletion: sql.Composed, part: Sequence[Seen]) -> int:
    found = connection.execute(deletion, _seen(part)).fetchone()
    return int(found[0]) if found else 0


def deletion(table: sql.Identifier, key: Sequence[str]) -> sql.Composed:
    """Takes away rows as they were seen, and says how many."""
    return sql.SQL("WITH {gone} SELECT count(*) FROM gone").format(gone=_gone(table, key, ["row_version"]))


def event_deletion(table: sql.Identifier, key: Sequence[str], ids: sql.Identifier) -> sql.Composed:
    """The same of events; their ids go with them: one that comes by Kafka one day must find none."""
    named = ("organization_id", "event_id", "event_timestamp")
    same = sql.SQL(" AND ").join(
        sql.SQL("told.{0} = gone.{0}").format(sql.Identifier(column)) for column in named
    )
    return sql.SQL(
        "WITH {gone}, untold AS (DELETE FROM {ids} AS told USING gone"
        " WHERE {same} AND told.topic = gone.source_topic)"
        " SELECT count(*) FROM gone"
    ).format(gone=_gone(table, key, [*named, "source_topic"]), ids=ids, same=same)


def _gone(table: sql.Identifier, key: Sequence[str], columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(
        "gone AS (DELETE FROM {table} USING {seen}"
        " WHERE {digest} = seen.key AND row_version = seen.version RETURNING {columns})"
    ).format(
        table=table,
        seen=sql.SQL(_SEEN),
        digest=key_digest(key),
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )


def _parts(rows: Sequence[Seen]) -> Iterator[Sequence[Seen]]:
    return (rows[first : first + _AT_ONCE] for first in range(0, len(rows), _AT_ONCE))


def _seen(part: Sequence[Seen]) -> tuple[list[bytes], list[int]]:
    return [row.key for row in part], [row.version for row in part]
