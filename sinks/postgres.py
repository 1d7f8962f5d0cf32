"""silver.<table> → PostgreSQL: COPY to staging from the executors, then one transaction that upserts by key.

A row the server refuses for its values (SQLSTATE class 22, 23) is found by halving the batch, and rejected
alone. The newest row_version of a key stays, whatever the order and number of writes.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pyarrow as pa
from psycopg import sql
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.errors import TransientError
from headwater.failpoints import fail_at
from headwater.log import logger
from headwater.postgres import (
    Connection,
    classified,
    connected,
    owner_conninfo,
    sqlstate_of,
    writer_conninfo,
)
from headwater.settings import Settings
from sinks.base import Rejected, Seen, Written
from sinks.outbox import LINEAGE, Outbox
from sinks.postgres_catalog import columns_of, require
from sinks.postgres_copy import BAD_TEXT, STAGING_LOCK, Batch, Staged, stage, stage_here, storable, sweep
from sinks.postgres_lines import CopyTarget
from sinks.postgres_mend import deletion, give_way, rightful_ids, withdraw
from sinks.postgres_tables import LEADS, PostgresTable
from sinks.postgres_upsert import names, upsert_statement
from sinks.written import say

LEAD_COLUMNS = LEADS.columns
# Sorting a batch in memory, no compiling of a statement that runs once, and no waiting for ever. The
# planner does not know how full staging is: it would take a batch for one row, and join it by nested loops.
SESSION = (
    "-c work_mem=64MB -c jit=off -c enable_nestloop=off"
    " -c timezone=UTC -c lock_timeout=30s -c statement_timeout=600s"
)
_log = logger(__name__)


@dataclass(frozen=True)
class _Rows:
    """A range of staged rows of one attempt, by staging's counter."""

    attempt: UUID
    first: int
    last: int


class PostgresSink:
    """One table, upserted by `key`. `columns` are what it takes of silver, row_version among them.

    With an outbox each row that is inserted or updated is entered there too, in the same transaction.
    """

    name = "postgres"

    def __init__(
        self,
        settings: Settings,
        query: str = "deliver.leads.postgres",
        table: PostgresTable = LEADS,
        outbox: Outbox | None = None,
    ) -> None:
        self._postgres = settings.postgres
        self._query = query
        self._path = (table.schema, table.name)
        self._key = tuple(table.key)
        self._columns = tuple(table.columns)
        self._called = dict(table.called)
        self._outbox = outbox
        besides = (c for c in ("tenant_id", *LINEAGE) if c not in self._columns)
        self._staged_columns = (*self._columns, *besides)
        self._table = sql.Identifier(*self._path)
        self._staging = sql.Identifier("staging", self._path[-1])
        self._deletion = deletion(self._table, self._key)

    def setup(self) -> None:
        """Check table and staging. Raises SetupError that names what `python -m jobs migrate` would make."""
        _ = self._types
        there = self._catalog(("staging", self._path[-1]))
        require(there, ("n", "attempt", *self._staged_columns), f"staging.{self._path[-1]}")
        if self._outbox:
            there = self._catalog(("public", self._outbox.table))
            require(there, ("seq", self._outbox.row, *self._outbox.columns), self._outbox.table)

    def write(self, batch: DataFrame | pa.Table) -> Written:
        """Upsert the rows, newest row_version wins. Reads the batch once; thrice if a text is unstorable.

        Rows that are on the driver are written without Spark.
        """
        return self._write(batch, None)

    def mend(self, batch: DataFrame, wrong: Sequence[Seen]) -> Written:
        """As `write`; rows that are as `wrong` says give way in the same transaction."""
        return self._write(batch, wrong)

    def withdraw(self, extra: Sequence[Seen]) -> int:
        """Delete rows that are still as they were found; as the owner, for the writer may delete no lead."""
        with self._connected_as_owner() as connection, connection.transaction():
            gone = withdraw(connection, self._deletion, extra)
        _log.info("withdrawn", sink=self.name, query=self._query, table=self._path[-1], rows=gone)
        return gone

    def _write(self, batch: DataFrame | pa.Table, wrong: Sequence[Seen] | None) -> Written:
        started = monotonic()
        batch = self._named(batch)
        with self._connected() as connection:
            connection.execute(f"SELECT pg_advisory_lock_shared({STAGING_LOCK})", (self._staging_name,))
            attempt, staged, rejected = self._stage(batch)
            written = Written(0, 0, 0)
            if staged.rows:
                self._make_room(connection, attempt)
                written = self._merge(connection, attempt, staged, wrong)
                connection.execute(f"SELECT pg_advisory_unlock_shared({STAGING_LOCK})", (self._staging_name,))
                sweep(connection, self._staging, attempt)
        written = replace(written, rejected=(*rejected, *written.rejected))
        where = {"sink": self.name, "query": self._query, "table": self._path[-1]}
        say(written, (staged.earliest, staged.latest), monotonic() - started, **where)
        return written

    def remove(self, batch: DataFrame) -> int:
        """Delete the rows with these keys, unless they are newer than the deletion; how many went."""
        named = self._named(batch).select(*self._key, "row_version")
        same = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier(c), sql.Placeholder()) for c in self._key
        )
        statement = sql.SQL("DELETE FROM {} WHERE {} AND row_version <= %s").format(self._table, same)
        with self._connected() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(statement, [tuple(row) for row in named.toLocalIterator()])
            gone = max(cursor.rowcount, 0)
        _log.info("removed", sink=self.name, query=self._query, table=self._path[-1], rows=gone)
        return gone

    def _named(self, batch: Batch) -> Batch:
        """The batch with the table's own names of columns beside the lake's."""
        if isinstance(batch, pa.Table):
            for ours, lakes in self._called.items():
                batch = batch.append_column(ours, batch[lakes])
            return batch
        return batch.withColumns({ours: F.col(lakes) for ours, lakes in self._called.items()})

    def reset(self) -> None:
        """Empty the table."""
        with self._connected() as connection:
            connection.execute(sql.SQL("TRUNCATE {}").format(self._table))

    # Staging

    def _stage(self, batch: DataFrame | pa.Table) -> tuple[UUID, Staged, tuple[Rejected, ...]]:
        """COPY the batch; when the server finds text it cannot store, COPY again without those rows."""
        attempt = uuid4()
        rejected: tuple[Rejected, ...] = ()
        staged = self._copy(batch, attempt)
        if staged.sqlstate == BAD_TEXT:
            rest, rows = storable(batch, self._staged_columns, (*LINEAGE, "tenant_id"))
            rejected = tuple(_rejected(row, BAD_TEXT, None) for row in rows)
            attempt = uuid4()
            staged = self._copy(rest, attempt)
        if staged.sqlstate:
            raise classified(staged.sqlstate, f"COPY to staging.{self._path[-1]}")
        return attempt, staged, rejected

    def _copy(self, batch: DataFrame | pa.Table, attempt: UUID) -> Staged:
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
            self._staging, names(("attempt", *self._staged_columns))
        )
        target = CopyTarget(self._conninfo, statement.as_bytes(None))
        if isinstance(batch, pa.Table):
            return stage_here(batch, target, attempt, self._staged_columns)
        return stage(batch, target, attempt, self._staged_columns, self._postgres.copy_partitions)

    # The transaction

    def _make_room(self, connection: Connection, attempt: UUID) -> None:
        """What the attempt's rows need to be there, before the transaction."""

    def _merge(
        self, connection: Connection, attempt: UUID, staged: Staged, wrong: Sequence[Seen] | None
    ) -> Written:
        refused: list[Rejected] = []
        with connection.transaction():
            self._take_turn(connection)
            if wrong is not None:
                self._make_older(connection, attempt, wrong)
            rows = self._staged_rows(connection, attempt, staged.rows)
            inserted, updated = self._upsert(connection, rows, refused)
            fail_at(self._query, "in_transaction")
        unchanged = staged.rows - inserted - updated - len(refused)
        return Written(inserted, updated, max(unchanged, 0), tuple(refused))

    def _make_older(self, connection: Connection, attempt: UUID, wrong: Sequence[Seen]) -> None:
        """Let the staged rows replace these, ids and all."""
        give_way(connection, self._table, self._key, wrong)
        if "id" in self._columns:
            ids = rightful_ids(self._table, self._staging, self._key, self._types)
            connection.execute(ids, (attempt,))

    def _take_turn(self, connection: Connection) -> None:
        """Wait until no other transaction is entering rows into the outbox: so `seq` grows with commits."""
        if self._outbox:
            turn = "SELECT pg_advisory_xact_lock(%s::regclass::oid::bigint)"
            connection.execute(turn, (self._outbox.lock_name,))

    def _staged_rows(self, connection: Connection, attempt: UUID, expected: int) -> _Rows:
        """The attempt's range; staging is unlogged, so a server that crashed after COPY has lost it."""
        query = sql.SQL("SELECT min(n), max(n), count(*) FROM {} WHERE attempt = %s").format(self._staging)
        found = connection.execute(query, (attempt,)).fetchone()
        if found is None or found[2] < expected:
            raise TransientError(f"staging.{self._path[-1]} lost rows of this batch: the server restarted")
        return _Rows(attempt, found[0], found[1])

    def _upsert(self, connection: Connection, rows: _Rows, refused: list[Rejected]) -> tuple[int, int]:
        """Inserted and updated; a range with a bad row is halved until the row is alone."""
        try:
            with connection.transaction():
                return self._enter(connection, (rows.attempt, rows.first, rows.last))
        except (psycopg.DataError, psycopg.IntegrityError) as fault:
            if self._outbox and fault.diag.table_name == self._outbox.table:
                raise TransientError(f"{self._outbox.table} was written by someone out of turn") from None
            if rows.first == rows.last:
                refused.append(self._refused(connection, rows, fault))
                return 0, 0
        middle = (rows.first + rows.last) // 2
        low = self._upsert(connection, _Rows(rows.attempt, rows.first, middle), refused)
        high = self._upsert(connection, _Rows(rows.attempt, middle + 1, rows.last), refused)
        return low[0] + high[0], low[1] + high[1]

    def _enter(self, connection: Connection, span: tuple[UUID, int, int]) -> tuple[int, int]:
        done = connection.execute(self._upsert_statement, span).fetchone()
        return (done[0], done[1]) if done else (0, 0)

    def _refused(self, connection: Connection, rows: _Rows, fault: psycopg.Error) -> Rejected:
        query = sql.SQL("SELECT {} FROM {} WHERE attempt = %s AND n = %s").format(
            names((*LINEAGE, "tenant_id")), self._staging
        )
        found = connection.execute(query, (rows.attempt, rows.first)).fetchone()
        rule = fault.diag.constraint_name or fault.diag.column_name
        return _rejected(found or (), sqlstate_of(fault), rule)

    @cached_property
    def _upsert_statement(self) -> sql.Composed:
        return upsert_statement(
            self._staging, self._table, self._key, self._columns, self._types, self._outbox
        )

    # The server

    @cached_property
    def _types(self) -> dict[str, str]:
        """The table's columns with their types, without lengths."""
        there = self._catalog(self._path)
        require(there, self._columns, ".".join(self._path))
        return there

    def _catalog(self, path: tuple[str, ...]) -> dict[str, str]:
        with self._connected() as connection:
            return columns_of(connection, path)

    @property
    def _staging_name(self) -> str:
        return self._staging.as_string()

    @cached_property
    def _conninfo(self) -> str:
        return writer_conninfo(self._postgres, self._query, SESSION)

    def _connected(self) -> AbstractContextManager[Connection]:
        return connected(self._conninfo, ".".join(self._path))

    def _connected_as_owner(self) -> AbstractContextManager[Connection]:
        return connected(owner_conninfo(self._postgres, SESSION), ".".join(self._path))


def _rejected(row: tuple[Any, ...], code: str, rule: str | None) -> Rejected:
    topic, partition, offset, tenant = row
    return Rejected(topic, int(partition), int(offset), tenant, code=code, rule=rule)
