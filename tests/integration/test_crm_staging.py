"""Revision 0009 on a real server: where rows of the CRM land, who makes and drops months, who may do what."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from importlib import import_module
from threading import Barrier
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation, InsufficientPrivilege, InvalidParameterValue, UniqueViolation

from headwater.postgres import Connection
from local.postgres import dsn
from tests.integration.broker import eventually
from tests.integration.outbox_harness import migrated_database

revision = import_module("schemas.migrations.versions.0009_crm")
TABLES = tuple(revision.TABLES)
LEADS, CONTACTS, OPPORTUNITIES, LOG = TABLES
IDS = {LEADS: "lead_id", CONTACTS: "contact_id", OPPORTUNITIES: "opportunity_id"}
PERSONAL = {"first_name", "last_name", "email", "phone", "name", "assigned_to", "metadata"}
ENSURE = "SELECT analytics.ensure_partition(%s, %s)"
DROP_BEFORE = "SELECT analytics.drop_partitions_before(%s, %s)"
PROCESSED = "SELECT analytics.is_event_processed(%s, %s)"
SHOWN = "SELECT * FROM analytics.{}_masked"
COUNT = "SELECT count(*) FROM analytics.{}"
FROM_NOW = "SELECT (now() AT TIME ZONE 'UTC' + %s::interval)::timestamp"
PARTITIONS = (
    "SELECT array_agg(relname::text ORDER BY relname) FROM pg_inherits"
    " JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = ('analytics.' || %s)::regclass"
)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


def as_role(role: str, database: str) -> Connection:
    return psycopg.connect(dsn(f"headwater_{role}", f"postgres-{role}", database), autocommit=True)


@pytest.fixture
def writer(database: str) -> Iterator[Connection]:
    with closing(as_role("writer", database)) as connection:
        yield connection


@pytest.fixture
def owner(database: str) -> Iterator[Connection]:
    with closing(as_role("owner", database)) as connection:
        yield connection


def ask(connection: Connection, query: str, *parameters: Any) -> Any:
    """The only value of the only row."""
    ((value,),) = connection.execute(query.encode(), parameters).fetchall()
    return value


def partition(table: str, month: datetime) -> str:
    return f"{table}_y{month:%Y}m{month:%m}"


def put(connection: Connection, table: str, event: str | None, when: Any, **changes: Any) -> str:
    """Insert a row; the partition that it landed in."""
    row: dict[str, Any] = {"organization_id": "acme", "event_id": event, "event_timestamp": when}
    row |= {"event_type": "made.up"}
    if table == LOG:
        row |= {"topic": "crm.events", "partition": 0, "offset": 1}
    else:
        row |= {IDS[table]: "1", "row_version": 1, "source_topic": "crm.events"}
        row |= {"source_partition": 0, "source_offset": 1}
        row |= {"name": "Ten seats"} if table == OPPORTUNITIES else {}
    row |= changes
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING tableoid::regclass::text").format(
        sql.Identifier("analytics", table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    ((where,),) = connection.execute(statement, list(row.values())).fetchall()
    return str(where).removeprefix("analytics.")


# Months


@pytest.mark.parametrize("table", TABLES)
def test_this_month_and_the_next_three_are_there_after_migrate(owner: Connection, table: str) -> None:
    months = [ask(owner, FROM_NOW, f"{ahead} months") for ahead in range(4)]
    assert {partition(table, month) for month in months} <= set(ask(owner, PARTITIONS, table))


def test_months_ahead_are_made_for_all_tables_once(writer: Connection) -> None:
    assert ask(writer, "SELECT analytics.ensure_partitions_ahead()") == 0
    assert ask(writer, "SELECT analytics.ensure_partitions_ahead(5)") == 2 * len(TABLES)
    assert ask(writer, "SELECT analytics.ensure_partitions_ahead(5)") == 0


@pytest.mark.parametrize("table", TABLES)
def test_the_last_moment_of_a_month_and_the_first_of_the_next_land_apart(
    writer: Connection, table: str
) -> None:
    writer.execute("SET timezone = 'America/New_York'")
    assert [ask(writer, ENSURE, table, day) for day in ("2014-01-31", "2014-02-01")] == [True, True]
    assert put(writer, table, "e-1", "2014-01-31 23:59:59.999999+00") == f"{table}_y2014m01"
    assert put(writer, table, "e-2", "2014-02-01 00:00:00+00") == f"{table}_y2014m02"


@pytest.mark.parametrize("table", TABLES)
def test_a_row_of_today_needs_nothing_and_one_of_two_years_ago_its_month(
    writer: Connection, table: str
) -> None:
    now, late = (ask(writer, FROM_NOW, span) for span in ("0 days", "-2 years"))
    assert put(writer, table, "now", f"{now}+00") == partition(table, now)
    with pytest.raises(CheckViolation, match="no partition"):
        put(writer, table, "late", f"{late}+00")
    assert [ask(writer, ENSURE, table, late.date()) for _ in range(2)] == [True, False]
    assert put(writer, table, "late", f"{late}+00") == partition(table, late)


def test_a_partition_has_the_tables_key_and_index(owner: Connection) -> None:
    ask(owner, ENSURE, LOG, "2013-05-01")
    of = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass"
    assert ask(owner, of, f"analytics.{LOG}_y2013m05") == ask(owner, of, f"analytics.{LOG}") == 3


def test_two_callers_at_once_make_each_month_once(database: str) -> None:
    months = [f"{year}-{month:02}-15" for year in (2010, 2011) for month in range(1, 13)]
    together = Barrier(2, timeout=60)

    def call(_: int) -> list[bool]:
        made = []
        with closing(as_role("writer", database)) as connection:
            for month in months:
                together.wait()
                made.append(ask(connection, ENSURE, LEADS, month))
        return made

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(call, range(2))
    assert len(first) == len(months)
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_a_caller_waits_for_another_that_has_not_committed(database: str, writer: Connection) -> None:
    with closing(as_role("writer", database)) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            assert ask(other, ENSURE, LEADS, "2012-01-01") is True
            waiting = pool.submit(ask, writer, ENSURE, LEADS, "2012-01-01")
            pid = writer.info.backend_pid
            asleep = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s"
            eventually(lambda: ask(other, asleep, pid), "the second caller waits")
        assert waiting.result(30) is False


def test_a_month_is_made_while_others_write_and_read(database: str, writer: Connection) -> None:
    with closing(as_role("writer", database)) as other, other.transaction():
        put(other, LEADS, "at work", ask(other, "SELECT now()"))
        ask(other, COUNT.format(LEADS))
        writer.execute("SET lock_timeout = '2s'")
        assert ask(writer, ENSURE, LEADS, "2012-02-01") is True


@pytest.mark.parametrize(
    "table", ["public.leads", "leads", "crm_event_ids", f"{LEADS}; DROP TABLE x", f"analytics.{LEADS}", None]
)
@pytest.mark.parametrize(("role", "statement"), [("writer", ENSURE), ("owner", DROP_BEFORE)])
def test_another_table_is_refused(database: str, role: str, statement: str, table: str | None) -> None:
    with closing(as_role(role, database)) as connection:
        with pytest.raises(InvalidParameterValue, match="no partitioned table of analytics"):
            ask(connection, statement, table, "2026-01-01")


@pytest.mark.parametrize("month", ["1999-12-31", "-infinity", "infinity", None])
@pytest.mark.parametrize(("role", "statement"), [("writer", ENSURE), ("owner", DROP_BEFORE)])
def test_a_month_that_cannot_be_is_refused(
    database: str, role: str, statement: str, month: str | None
) -> None:
    with closing(as_role(role, database)) as connection:
        with pytest.raises(InvalidParameterValue, match="no month from 2000-01 to 13 months ahead"):
            ask(connection, statement, LEADS, month)


def test_the_first_month_is_2000_and_the_last_is_13_months_ahead(writer: Connection) -> None:
    last, after, ten_years = (ask(writer, FROM_NOW, span) for span in ("13 months", "14 months", "10 years"))
    assert [ask(writer, ENSURE, CONTACTS, month) for month in ("2000-01-01", last.date())] == [True, True]
    for month in (after, ten_years):
        with pytest.raises(InvalidParameterValue):
            ask(writer, ENSURE, CONTACTS, month.date())


# Keys


@pytest.mark.parametrize("table", IDS)
def test_the_same_event_at_the_same_time_is_refused_by_the_key(writer: Connection, table: str) -> None:
    ask(writer, ENSURE, table, "2015-03-01")
    put(writer, table, "twice", "2015-03-01 12:00+00")
    put(writer, table, "twice", "2015-03-01 12:00+00", organization_id="globex")
    with pytest.raises(UniqueViolation):
        put(writer, table, "twice", "2015-03-01 12:00+00")


def test_the_log_takes_a_record_once_also_one_without_an_event(writer: Connection) -> None:
    ask(writer, ENSURE, LOG, "2015-03-01")
    unread = {"organization_id": None, "event_type": None, "processing_status": "failed"}
    put(writer, LOG, None, "2015-03-01 12:00+00", offset=7, **unread)
    put(writer, LOG, None, "2015-03-01 12:00+00", offset=8, **unread)
    with pytest.raises(UniqueViolation):
        put(writer, LOG, "e-7", "2015-03-01 12:00+00", offset=7)


def test_the_log_knows_three_ends_of_a_record(writer: Connection) -> None:
    ask(writer, ENSURE, LOG, "2015-04-01")
    for offset, status in enumerate(("processed", "skipped", "failed")):
        put(writer, LOG, "e-1", "2015-04-01 12:00+00", offset=offset, processing_status=status)
    with pytest.raises(CheckViolation):
        put(writer, LOG, "e-1", "2015-04-01 12:00+00", offset=3, processing_status="lost")


def test_an_event_is_processed_once_its_id_is_there_and_for_its_own_organization(writer: Connection) -> None:
    assert ask(writer, PROCESSED, "e-1", "acme") is False
    writer.execute(
        "INSERT INTO analytics.crm_event_ids"
        ' (organization_id, event_id, event_timestamp, topic, partition, "offset")'
        " VALUES ('acme', 'e-1', now(), 'crm.leads', 0, 1)"
    )
    asked = [("e-1", "acme"), ("e-1", "globex"), ("e-1", None), ("e-2", "acme"), (None, None)]
    assert [ask(writer, PROCESSED, *one) for one in asked] == [True, False, True, False, False]
    assert ask(writer, "SELECT analytics.is_event_processed('e-1')") is True


# Retention


def test_only_whole_months_before_are_dropped_and_only_of_that_table(owner: Connection) -> None:
    for table in (CONTACTS, OPPORTUNITIES):
        for month in ("2001-01-01", "2001-02-01", "2001-03-01", "2001-04-01"):
            ask(owner, ENSURE, table, month)
    before = {table: ask(owner, PARTITIONS, table) for table in TABLES}
    old = [name for name in before[OPPORTUNITIES] if name < f"{OPPORTUNITIES}_y2001m03"]
    assert ask(owner, DROP_BEFORE, OPPORTUNITIES, "2001-03-31") == len(old) == 2
    assert ask(owner, DROP_BEFORE, OPPORTUNITIES, "2001-03-31") == 0
    left = [name for name in before[OPPORTUNITIES] if name not in old]
    assert {table: ask(owner, PARTITIONS, table) for table in TABLES} == before | {OPPORTUNITIES: left}


def test_a_month_that_was_dropped_is_made_anew_and_empty(owner: Connection) -> None:
    ask(owner, ENSURE, OPPORTUNITIES, "2002-01-01")
    put(owner, OPPORTUNITIES, "e-1", "2002-01-31 12:00+00")
    ask(owner, DROP_BEFORE, OPPORTUNITIES, "2002-02-01")
    assert ask(owner, ENSURE, OPPORTUNITIES, "2002-01-01") is True
    assert ask(owner, COUNT.format(f"{OPPORTUNITIES}_y2002m01")) == 0


# Roles

# {} is each of the four tables, {part} one of its partitions.
REFUSED = {
    "reader": [
        "SELECT 1 FROM analytics.{}",
        "SELECT 1 FROM analytics.{part}",
        "SELECT 1 FROM analytics.crm_event_ids",
        "SELECT analytics.is_event_processed('e-1')",
        "SELECT analytics.ensure_partition('{}', '2020-01-01')",
        "SELECT 1 FROM staging.{}",
    ],
    "writer": [
        "DELETE FROM analytics.{}",
        "SELECT 1 FROM analytics.{part}",
        "DROP TABLE analytics.{}",
        "DROP TABLE analytics.{part}",
        "ALTER TABLE analytics.{} DETACH PARTITION analytics.{part}",
        "CREATE TABLE analytics.{}_mine (LIKE analytics.{})",
        "CREATE TABLE analytics.{}_default PARTITION OF analytics.{} DEFAULT",
        "ALTER FUNCTION analytics.ensure_partition RESET search_path",
        "SELECT analytics.partition_name('{}', '2020-01-01')",
        "SELECT analytics.drop_partitions_before('{}', '2020-01-01')",
        "DELETE FROM analytics.crm_event_ids",
        "TRUNCATE analytics.crm_event_ids",
    ],
    "api": [
        "SELECT 1 FROM analytics.{}",
        "SELECT 1 FROM analytics.{part}",
        "SELECT 1 FROM analytics.crm_event_ids",
        "INSERT INTO analytics.{} DEFAULT VALUES",
        "DELETE FROM analytics.{}",
        "SELECT analytics.ensure_partition('{}', '2020-01-01')",
        "SELECT analytics.ensure_partitions_ahead()",
        "SELECT analytics.drop_partitions_before('{}', '2020-01-01')",
        "SELECT analytics.forget_staged_ids()",
    ],
}


# {} is each of the three that hold persons.
REFUSED_BESIDES = {
    "reader": ["INSERT INTO analytics.{}_masked DEFAULT VALUES", "DELETE FROM analytics.{}_masked"],
    "writer": ["SELECT 1 FROM analytics.{}_masked"],
    "api": ["SELECT 1 FROM analytics.{}_masked"],
}


@pytest.mark.parametrize("role", REFUSED)
def test_a_role_is_refused_what_is_not_its_own(database: str, owner: Connection, role: str) -> None:
    parts = {table: ask(owner, PARTITIONS, table)[-1] for table in TABLES}
    asked = [text.format(*[table] * 2, part=parts[table]) for text in REFUSED[role] for table in TABLES]
    asked += [text.format(table) for text in REFUSED_BESIDES[role] for table in IDS]
    with closing(as_role(role, database)) as connection:
        for statement in asked:
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement.encode())
                pytest.fail(f"{role} may {statement}")


@pytest.mark.parametrize("table", IDS)
def test_a_reader_sees_the_masked_view_without_the_person(database: str, table: str) -> None:
    with closing(as_role("reader", database)) as reader:
        shown = reader.execute(SHOWN.format(table).encode()).description or []
    assert {column.name for column in shown} == set(revision.TABLES[table]) - PERSONAL


def test_the_api_asks_whether_an_event_was_processed(database: str) -> None:
    with closing(as_role("api", database)) as api:
        assert ask(api, PROCESSED, "e-0", "acme") is False


WRITES = (
    "UPDATE analytics.{} SET row_version = row_version + 1",
    "INSERT INTO staging.{} (attempt) VALUES (gen_random_uuid())",
    "TRUNCATE analytics.{0}, staging.{0}",
)


@pytest.mark.parametrize("table", TABLES)
def test_the_writer_stages_changes_and_empties(writer: Connection, table: str) -> None:
    with writer.transaction(force_rollback=True):
        put(writer, table, "e-1", ask(writer, "SELECT now()"))
        for statement in WRITES:
            writer.execute(statement.format(table).encode())
        assert ask(writer, COUNT.format(table)) == 0
