"""The statement of the sink's transaction: staged rows of one attempt → the table, and its outbox."""

from collections.abc import Mapping, Sequence

from psycopg import sql

from sinks.outbox import LINEAGE, Outbox

_TEXTS = ("text", "character varying")


def upsert_statement(
    staging: sql.Identifier,
    table: sql.Identifier,
    key: Sequence[str],
    columns: Sequence[str],
    types: Mapping[str, str],
    outbox: Outbox | None,
) -> sql.Composed:
    """Of doubles the newest is taken, and replaces only what is older; gives how many were new and replaced.

    Its parameters are the attempt, and the first and last of staging's counter. `types` are those of all the
    table's columns, without lengths: `text::varchar(50)` would cut silently, the column itself refuses.
    """
    needs = outbox.needs if outbox else ()
    staged = {c: types[c] for c in columns} | {c: k for c, k in LINEAGE.items() if c not in columns}
    cast = sql.SQL("{0}::{1} AS {0}")
    return sql.SQL(
        "WITH picked AS (SELECT DISTINCT ON ({same}) {casts}"
        " FROM {staging} WHERE attempt = %s AND n BETWEEN %s AND %s"
        " ORDER BY {same}, row_version::bigint DESC),"
        " done AS (INSERT INTO {table} AS kept ({columns}) SELECT {columns} FROM picked"
        " ON CONFLICT ({key}) DO UPDATE SET {changes} WHERE excluded.row_version > kept.row_version"
        " RETURNING xmax = 0 AS fresh, {returned}){announced}"
        " SELECT count(*) FILTER (WHERE fresh), count(*) FILTER (WHERE NOT fresh) FROM done"
    ).format(
        same=sql.SQL(", ").join(_compared(column, types[column]) for column in key),
        casts=sql.SQL(", ").join(cast.format(sql.Identifier(c), sql.SQL(k)) for c, k in staged.items()),
        staging=staging,
        table=table,
        columns=names(columns),
        key=names(key),
        changes=_changes([c for c in columns if c not in (*key, "id")], types),
        returned=names(tuple(dict.fromkeys((*key, *needs)))),
        announced=sql.SQL(", announced AS ({})").format(outbox.insertion(key)) if outbox else sql.SQL(""),
    )


def names(columns: Sequence[str]) -> sql.Composed:
    """Columns as a list in a statement."""
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _compared(column: str, kind: str) -> sql.Composed:
    """What tells one key from another: texts by their bytes, which is quicker than by a language's rules."""
    return sql.SQL('{} COLLATE "C"' if kind in _TEXTS else "{}").format(sql.Identifier(column))


def _changes(columns: Sequence[str], types: Mapping[str, str]) -> sql.Composed:
    change = sql.SQL("{0} = excluded.{0}")
    changes: list[sql.Composable] = [change.format(sql.Identifier(c)) for c in columns]
    if "updated_at" in types:
        changes.append(sql.SQL("{} = now()").format(sql.Identifier("updated_at")))
    return sql.SQL(", ").join(changes)
