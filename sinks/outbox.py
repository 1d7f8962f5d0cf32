"""Rows that PostgreSQL took → its outbox, in the same statement: what must be announced is never forgotten.

A version is announced once: neither a repeated batch nor a rebuild of the table enters it, or an older one,
again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

LINEAGE = {"source_topic": "text", "source_partition": "int", "source_offset": "bigint"}


@dataclass(frozen=True)
class Outbox:
    """A table of announcements: `row` holds the written row's `id`, `columns` are taken as they are."""

    table: str
    row: str
    columns: Sequence[str]

    @property
    def needs(self) -> tuple[str, ...]:
        """Columns of the written row that an announcement is made of."""
        return ("id", "row_version", *self.columns)

    @property
    def lock_name(self) -> str:
        """What the writers' turns are called by: commits, and so `seq`, come in one order."""
        return sql.Identifier("public", self.table).as_string()

    def insertion(self, key: Sequence[str]) -> sql.Composed:
        """A statement over `done` (rows written, with their id) and `picked` (rows staged, with lineage).

        The newest version is looked up row by row in the unique index: no plan may read the whole outbox.
        Nothing that is found there can be entered by another meanwhile, because writers take turns.
        """
        taken = sql.SQL(", ").join(sql.SQL("done.{}").format(sql.Identifier(c)) for c in self.columns)
        place = sql.SQL(", ").join(sql.SQL("picked.{}").format(sql.Identifier(c)) for c in LINEAGE)
        return sql.SQL(
            "INSERT INTO {outbox} ({row}, {columns}) SELECT done.id, {taken}, {place}"
            " FROM done JOIN picked USING ({key}) WHERE done.row_version > coalesce("
            "(SELECT max(told.row_version) FROM {outbox} AS told WHERE told.{row} = done.id), -1)"
        ).format(
            outbox=sql.Identifier("public", self.table),
            row=sql.Identifier(self.row),
            columns=sql.SQL(", ").join(map(sql.Identifier, (*self.columns, *LINEAGE))),
            taken=taken,
            place=place,
            key=sql.SQL(", ").join(map(sql.Identifier, key)),
        )


LEAD_OUTBOX = Outbox("lead_outbox", "lead_id", ("tenant_id", "event_id", "row_version"))
