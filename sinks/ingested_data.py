"""Rows of one import → public.ingested_data: COPY to a staging table of its own, then one upsert.

A staging table has the name of the attempt that fills it. `load` may be repeated: it makes the table anew.
`upsert` runs within the transaction that ends the job, so both happen or neither. It takes turns with others
of the same tenant and dataset: each sees all rows that the ones before it left, so none is inserted twice, no
count is lost and no two wait for each other.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pyarrow as pa
from psycopg import sql
from psycopg.conninfo import make_conninfo
from pyspark.sql import DataFrame

from headwater.errors import LostError, QualityError, TransientError
from headwater.postgres import LETS_GO, Connection, classified, connected, unless_locked
from headwater.worker import forget_archives
from sinks.postgres_lines import CopyTarget, Sent, row_lines, send

SCHEMA = "staging"
COLUMNS = ("content_hash", "data", "line")
PARTITIONS = 2
_BAD_DATA = "22"
# No statement is too long: how many rows a file may have is a matter of uploads.max_unpacked_bytes.
SESSION = f"{LETS_GO} -c jit=off -c timezone=UTC -c lock_timeout=30s -c statement_timeout=0"
# Of the transaction that upserts: millions of rows are sorted, in memory as far as it goes, and then it waits
# while Delta is written.
WITHIN = (
    "SET LOCAL jit = off; SET LOCAL work_mem = '128MB'; SET LOCAL lock_timeout = '30s';"
    " SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
)
_ASKED_EVERY_S = 0.5
_RESULT = pa.schema([("rows", pa.int64()), ("transaction", pa.string()), ("sqlstate", pa.string())])

_CREATE = """
CREATE UNLOGGED TABLE {table} (content_hash BYTEA NOT NULL, data JSONB NOT NULL, line BIGINT NOT NULL)
WITH (autovacuum_enabled = off)
"""
_TURN = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, hashtextextended(%s, 0)))"
# What others of this tenant and dataset left. Then the rows that are there, once for each job; then the rest,
# in the order of the index.
_THERE = "SELECT EXISTS (SELECT FROM ingested_data WHERE tenant_id = %(tenant)s AND dataset = %(dataset)s)"
_AGAIN = """
UPDATE ingested_data AS kept SET updated_at = now(), seen_count = kept.seen_count + 1, last_job = %(job)s,
  row_version = greatest(kept.row_version, %(version)s | (staged.line & 1048575))
FROM (SELECT content_hash, min(line) AS line FROM {table} GROUP BY content_hash) AS staged
WHERE kept.tenant_id = %(tenant)s AND kept.dataset = %(dataset)s AND kept.content_hash = staged.content_hash
  AND kept.last_job <> %(job)s AND kept.first_job <> %(job)s
"""
_NEW = """
INSERT INTO ingested_data (tenant_id, dataset, content_hash, data, first_job, last_job, row_version)
SELECT DISTINCT ON (content_hash) %(tenant)s::text, %(dataset)s::text, content_hash, data, %(job)s, %(job)s,
  %(version)s | (line & 1048575)
FROM {table} AS staged {unless_there} ORDER BY content_hash, line
"""
_UNLESS_THERE = """
WHERE NOT EXISTS (SELECT FROM ingested_data AS kept WHERE kept.tenant_id = %(tenant)s
  AND kept.dataset = %(dataset)s AND kept.content_hash = staged.content_hash)
"""


@dataclass(frozen=True)
class Upserted:
    """What became of the staged rows. A row whose hash the file had before it is unchanged."""

    inserted: int
    updated: int
    unchanged: int


def load(rows: DataFrame, dsn: str, name: str, partitions: int = PARTITIONS) -> None:
    """COPY content_hash (64 letters of hex), data (canonical JSON) and line into the attempt's staging table.

    At most so many tasks at once, each one transaction. Faults as those of `stage`.
    """
    stage(dsn, name, lambda target: _copied(rows, target, partitions))


def stage(dsn: str, name: str, copied: Callable[[CopyTarget], Sequence[Sent]]) -> None:
    """Make the table anew, have it filled, and remember in its comment which transactions count.

    Rows of a task that was given up, or ran twice, are of other transactions. Session options of the dsn are
    replaced. Raises TransientError, SetupError, and QualityError when PostgreSQL does not take a row's data.
    """
    table, conninfo = _staging(name), make_conninfo(dsn, options=SESSION)
    with connected(conninfo, SCHEMA) as connection, connection.transaction():
        discard(connection, name)
        connection.execute(sql.SQL(_CREATE).format(table=table))
    copy = sql.SQL("COPY {} ({}) FROM STDIN").format(table, sql.SQL(", ").join(map(sql.SQL, COLUMNS)))
    sent = copied(CopyTarget(conninfo, copy.as_bytes(None)))
    for state in (one.sqlstate for one in sent if one.sqlstate):
        if state.startswith(_BAD_DATA):
            raise QualityError(f"COPY to {SCHEMA}: SQLSTATE {state}: rows that PostgreSQL does not take")
        raise classified(state, f"COPY to {SCHEMA}")
    note = {"rows": sum(one.rows for one in sent), "transactions": [one.transaction for one in sent]}
    with connected(conninfo, SCHEMA) as connection:
        connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, json.dumps(note)))


def take_turn(
    connection: Connection, tenant: str, dataset: str, waiting: Callable[[], None] = lambda: None
) -> None:
    """Wait until no other import of this tenant and dataset is at its upsert; others wait for this one until
    the caller's transaction ends. `waiting` is called before each look but the first, and may raise.
    """
    while connection.execute(_TURN, (dataset, tenant)).fetchone() != (True,):
        waiting()
        time.sleep(_ASKED_EVERY_S)


def upsert(connection: Connection, name: str, job_id: UUID, tenant: str, dataset: str) -> Upserted:
    """Staged rows → ingested_data, and the staging table is dropped. Within the caller's transaction, which
    reads what is committed (PostgreSQL's default). Faults of the server are psycopg's.

    Its settings and the turn hold until that transaction ends. Raises TransientError when what `load` staged
    is not all there, LostError when there is no such job.
    """
    table = _staging(name)
    connection.execute(WITHIN)
    staged = _settled(connection, name)
    values = {"job": job_id, "tenant": tenant, "dataset": dataset, "version": _version(connection, job_id)}
    take_turn(connection, tenant, dataset)
    there = connection.execute(_THERE, values).fetchone() == (True,)
    updated = 0
    if there:
        _prepare(connection, table)
        updated = connection.execute(sql.SQL(_AGAIN).format(table=table), values).rowcount
    new = sql.SQL(_NEW).format(table=table, unless_there=sql.SQL(_UNLESS_THERE if there else ""))
    inserted = connection.execute(new, values).rowcount
    discard(connection, name)
    return Upserted(inserted, updated, staged - inserted - updated)


def discard(connection: Connection, name: str) -> None:
    """Drop the attempt's staging table, if there is one."""
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_staging(name)))


def discard_orphans(connection: Connection, orphans: Callable[[Iterable[str]], Collection[str]]) -> int:
    """Drop the staging tables that `orphans` picks from their names: how many. One that a task still uses is
    left."""
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (SCHEMA,)).fetchall()
    dropped = 0
    for name in orphans([row[0] for row in found]):
        with unless_locked(connection):
            connection.execute("SET LOCAL lock_timeout = '1s'")
            discard(connection, name)
            dropped += 1
    return dropped


def _staging(name: str) -> sql.Identifier:
    return sql.Identifier(SCHEMA, name)


# The tasks


def _copied(rows: DataFrame, target: CopyTarget, partitions: int) -> list[Sent]:
    """What each task did. Spark tells it of that attempt of a task which it accepted."""
    kinds = "rows BIGINT, transaction STRING, sqlstate STRING"
    found = rows.select(*COLUMNS).coalesce(partitions).mapInArrow(_task(target), kinds).collect()
    return [Sent(row.rows, row.transaction, row.sqlstate) for row in found]


def _task(target: CopyTarget) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        forget_archives()
        sent = send(target, row_lines(batches))
        if sent:
            yield pa.RecordBatch.from_pylist([vars(sent)], schema=_RESULT)

    return run


# The transaction


def _settled(connection: Connection, name: str) -> int:
    """Rows that count; others are deleted, and none is added any more: a task may outlive its job's `load`.

    The table is unlogged, so a server that crashed after COPY has emptied it.
    """
    table = _staging(name)
    asked = "SELECT obj_description(to_regclass(%s), 'pg_class')"
    found = connection.execute(asked, (table.as_string(),)).fetchone()
    if found is None or found[0] is None:
        raise TransientError(f"{SCHEMA}.{name} is not filled")
    note: dict[str, Any] = json.loads(found[0])
    connection.execute(sql.SQL("LOCK TABLE {}").format(table))
    strangers = sql.SQL("DELETE FROM {} WHERE xmin <> ALL(%s::xid[])").format(table)
    connection.execute(strangers, (note["transactions"],))
    count = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    if count != (note["rows"],):
        raise TransientError(f"{SCHEMA}.{name} lost rows: the server restarted")
    return int(note["rows"])


def _version(connection: Connection, job_id: UUID) -> int:
    """The row_version of the job's line 0: when it was entered, which a repetition does not change."""
    asked = (
        "SELECT floor(extract(epoch FROM created_at) * 1000)::bigint << 20 FROM ingestion_jobs WHERE id = %s"
    )
    found = connection.execute(asked, (job_id,)).fetchone()
    if found is None:
        raise LostError(f"job {job_id} is not there")
    return int(found[0])


def _prepare(connection: Connection, table: sql.Identifier) -> None:
    """An index, so that no join reads staging once for each row that is there, and what the planner knows."""
    connection.execute(sql.SQL("CREATE INDEX ON {} (content_hash)").format(table))
    connection.execute(sql.SQL("ANALYZE {} (content_hash)").format(table))
