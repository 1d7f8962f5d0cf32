"""silver.crm_* and what became of each record → PostgreSQL's tables of the CRM, by month of the event.

An event enters the staging table of its topic once, with its id in `analytics.crm_event_ids`, in one
statement: whoever brings it again, with whatever time, finds the id there. The log has a row for each record
of Kafka, and `analytics.crm_event_counts` grows by what enters it, in the same statement. The partitions that
a batch needs are made before its transaction: the writer may not make tables.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from functools import cached_property
from uuid import UUID

from psycopg import sql
from pyspark.sql import DataFrame

from headwater.postgres import Connection, connected, owner_conninfo
from headwater.settings import Settings
from sinks.base import Seen, Written
from sinks.postgres import PostgresSink
from sinks.postgres_mend import event_deletion
from sinks.postgres_tables import CRM_CONTACTS, CRM_LEADS, CRM_LOG, CRM_OPPORTUNITIES, PostgresTable
from sinks.postgres_upsert import names

IDS = sql.Identifier("analytics", "crm_event_ids")
COUNTS = sql.Identifier("analytics", "crm_event_counts")
_ID = ("organization_id", "event_id", "event_timestamp", "topic", "partition", "offset")
# Events that have no staging table: their ids are entered with the log, and stay when staging is emptied.
WILDCARD = "crm.events"
_MONTHS = (
    "SELECT DISTINCT date_trunc('month', event_timestamp::timestamptz AT TIME ZONE 'UTC')::date"
    " FROM {} WHERE attempt = %s ORDER BY 1"
)


BY_MONTH = (CRM_LEADS, CRM_CONTACTS, CRM_OPPORTUNITIES, CRM_LOG)
# Who drops a month waits for those who read it, and keeps all others waiting meanwhile.
_LOCK_WAIT = "10s"


def keep_months(settings: Settings, first: date | None) -> tuple[dict[str, int], int]:
    """Drop the months before `first`, None for none, and make those to come, as the owner: how many of each
    table went, and how many were made. A table is one transaction."""
    where, dropped = "maintain", {}
    conninfo = owner_conninfo(settings.postgres, f"-c lock_timeout={_LOCK_WAIT} -c timezone=UTC")
    with connected(conninfo, where) as connection:
        for table in BY_MONTH if first else ():
            asked = "SELECT analytics.drop_partitions_before(%s, %s)"
            dropped[table.name] = _one(connection, asked, table.name, first)
        return dropped, _one(connection, "SELECT analytics.ensure_partitions_ahead()")


def _one(connection: Connection, query: str, *values: object) -> int:
    row = connection.execute(query.encode(), values).fetchone()
    return int(row[0]) if row else 0


class EventsSink(PostgresSink):
    """A staging table."""

    def __init__(self, settings: Settings, query: str, table: PostgresTable) -> None:
        super().__init__(settings, query, table)
        self._deletion = event_deletion(self._table, self._key, IDS)
        self._made_of = settings, query, table

    def mend(self, batch: DataFrame, wrong: Sequence[Seen]) -> Written:
        """Enter these events anew, whatever the table and the ids say of them."""
        return _Anew(*self._made_of).write(batch)

    def _make_room(self, connection: Connection, attempt: UUID) -> None:
        months = connection.execute(sql.SQL(_MONTHS).format(self._staging), (attempt,)).fetchall()
        for (month,) in months:
            # Each in a transaction of its own, so that those who make months never wait in a circle.
            connection.execute("SELECT analytics.ensure_partition(%s, %s)", (self._path[-1], month))

    @cached_property
    def _upsert_statement(self) -> sql.Composed:
        """Staged rows of one attempt → the table and the ids; gives how many were new, and 0."""
        place = {"topic": "source_topic", "partition": "source_partition", "offset": "source_offset"}
        return sql.SQL(
            "WITH {picked}, entered AS (INSERT INTO {ids} ({id}) SELECT {said} FROM picked"
            " ON CONFLICT DO NOTHING RETURNING organization_id, event_id),"
            " done AS (INSERT INTO {table} ({columns}) SELECT {columns} FROM picked"
            " JOIN entered USING (organization_id, event_id) RETURNING 1)"
            " SELECT count(*), 0 FROM done"
        ).format(
            picked=_picked(self._staging, ("organization_id", "event_id"), self._columns, self._types),
            ids=IDS,
            id=names(_ID),
            said=names([place.get(name, name) for name in _ID]),
            table=self._table,
            columns=names(self._columns),
        )

    def reset(self) -> None:
        """Empty the table, and forget all ids but the wildcard's: the other staging tables are emptied with
        it, the log is not."""
        with self._connected() as connection, connection.transaction():
            connection.execute(sql.SQL("TRUNCATE {}").format(self._table))
            connection.execute("SELECT analytics.forget_staged_ids()")


class _Forgetting(EventsSink):
    """A table of the CRM, written by its owner, who may delete: something that is there of the staged rows
    goes first, in the transaction that enters them again."""

    def _connected(self) -> AbstractContextManager[Connection]:
        return self._connected_as_owner()

    def _enter(self, connection: Connection, span: tuple[UUID, int, int]) -> tuple[int, int]:
        for statement in self._forgetting:
            connection.execute(statement, span)
        return super()._enter(connection, span)

    @cached_property
    def _forgetting(self) -> tuple[sql.Composed, ...]:
        raise NotImplementedError


class _Anew(_Forgetting):
    """A staging table. What is there of a staged event goes, and its id with it. Whoever brings the event
    meanwhile waits."""

    @cached_property
    def _forgetting(self) -> tuple[sql.Composed, ...]:
        form = (
            "DELETE FROM {} AS kept USING {} AS staged"
            " WHERE staged.attempt = %s AND staged.n BETWEEN %s AND %s"
            " AND kept.organization_id = staged.organization_id AND kept.event_id = staged.event_id AND "
        )
        row = sql.SQL(form + "kept.event_timestamp = staged.event_timestamp::timestamptz")
        told = sql.SQL(form + "kept.topic = staged.source_topic")
        return row.format(self._table, self._staging), told.format(IDS, self._staging)


class LogSink(EventsSink):
    """The log of records. A record is there once, with what first became of it."""

    def __init__(self, settings: Settings, query: str, table: PostgresTable = CRM_LOG) -> None:
        super().__init__(settings, query, table)

    @cached_property
    def _upsert_statement(self) -> sql.Composed:
        return sql.SQL(
            "WITH {picked}, entered AS (INSERT INTO {ids} ({id}) SELECT {id} FROM picked"
            " WHERE topic = {wildcard} AND processing_status = 'processed' ON CONFLICT DO NOTHING),"
            " done AS (INSERT INTO {table} ({columns}) SELECT {columns} FROM picked"
            " ON CONFLICT DO NOTHING RETURNING organization_id, processing_status),"
            # In one order, so that two who count never wait in a circle.
            " counted AS (INSERT INTO {counts} AS sums SELECT organization_id, processing_status, count(*)"
            " FROM done WHERE organization_id IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
            " ON CONFLICT (organization_id, processing_status)"
            " DO UPDATE SET events = sums.events + excluded.events)"
            " SELECT count(*), 0 FROM done"
        ).format(
            picked=_picked(self._staging, self._key, self._columns, self._types),
            counts=COUNTS,
            ids=IDS,
            id=names(_ID),
            wildcard=sql.Literal(WILDCARD),
            table=self._table,
            columns=names(self._columns),
        )

    def tell_anew(self, batch: DataFrame) -> Written:
        """As `write`, but what the log has of these records goes first, whatever became of them then."""
        return _ToldAnew(*self._made_of).write(batch)

    def reset(self) -> None:
        """Empty the log and its counts. Ids stay."""
        with self._connected() as connection:
            connection.execute(sql.SQL("TRUNCATE {}, {}").format(self._table, COUNTS))


class _ToldAnew(_Forgetting, LogSink):
    """The log. What it has of the staged records goes, out of its counts, too, and the ids that it gave."""

    @cached_property
    def _forgetting(self) -> tuple[sql.Composed, ...]:
        staged = sql.SQL(
            "USING {staging} AS staged WHERE staged.attempt = %s AND staged.n BETWEEN %s AND %s"
            " AND kept.topic = staged.source_topic AND kept.partition = staged.source_partition::int"
            ' AND kept."offset" = staged.source_offset::bigint'
        ).format(staging=self._staging)
        row = sql.SQL(
            "WITH gone AS (DELETE FROM {table} AS kept {staged}"
            " RETURNING kept.organization_id, kept.processing_status), less AS (SELECT organization_id,"
            " processing_status, count(*) AS events FROM gone GROUP BY 1, 2 ORDER BY 1, 2)"
            " UPDATE {counts} AS sums SET events = sums.events - less.events FROM less"
            " WHERE sums.organization_id = less.organization_id"
            " AND sums.processing_status = less.processing_status"
        )
        told = sql.SQL("DELETE FROM {ids} AS kept {staged} AND kept.topic = {wildcard}")
        return (
            row.format(table=self._table, staged=staged, counts=COUNTS),
            told.format(ids=IDS, staged=staged, wildcard=sql.Literal(WILDCARD)),
        )


def _picked(
    staging: sql.Identifier, same: Sequence[str], columns: Sequence[str], types: Mapping[str, str]
) -> sql.Composed:
    """The attempt's staged rows with the table's types; of rows that agree in `same` the earliest."""
    cast = sql.SQL("{0}::{1} AS {0}")
    return sql.SQL(
        "picked AS (SELECT DISTINCT ON ({same}) {casts} FROM {staging}"
        " WHERE attempt = %s AND n BETWEEN %s AND %s ORDER BY {same}, row_version::bigint)"
    ).format(
        same=names(same),
        casts=sql.SQL(", ").join(cast.format(sql.Identifier(c), sql.SQL(types[c])) for c in columns),
        staging=staging,
    )
