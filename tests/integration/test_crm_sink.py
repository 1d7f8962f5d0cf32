"""deliver.crm.postgres's sink against a real server: each event once, in its own month, whoever brings it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from headwater.postgres import Connection, writer_conninfo
from headwater.settings import Settings
from local.postgres import dsn
from schemas.tables import CRM_LEADS, CRM_OPPORTUNITIES, Table
from sinks import postgres_tables
from sinks.postgres_events import EventsSink, LogSink
from sinks.postgres_tables import PostgresTable
from tests.builders import arrow_schema
from tests.integration.crm_log import records
from tests.integration.outbox_harness import migrated_database, settings_of

MARCH = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture
def settings(database: str) -> Settings:
    made = settings_of(database)
    for table in (postgres_tables.CRM_LEADS, postgres_tables.CRM_OPPORTUNITIES):
        EventsSink(made, "test", table).reset()
    LogSink(made, "test").reset()
    with as_owner(database) as connection:
        connection.execute("TRUNCATE analytics.crm_event_ids")
    return made


def rows(table: Table, *given: dict[str, Any]) -> pa.Table:
    """Rows of silver on the driver; what is not given is null, or the same in each."""
    names = {"silver.crm_leads": "lead_id", "silver.crm_opportunities": "opportunity_id"}
    same = {
        "event_type": "made", "tenant_id": "acme", "event_time": MARCH, names[table.full_name]: "T1",
        "source_topic": "crm.leads", "source_partition": 0, "name": "Big",
    }  # fmt: skip
    made = [
        {**same, "event_id": f"e{n}", "source_offset": n, "row_version": n, **row}
        for n, row in enumerate(given)
    ]
    return pa.Table.from_pylist(made, arrow_schema(table.columns))


def lead_sink(settings: Settings) -> EventsSink:
    sink = EventsSink(settings, "test", postgres_tables.CRM_LEADS)
    sink.setup()
    return sink


def as_owner(database: str) -> Connection:
    return psycopg.connect(dsn("headwater_owner", "postgres-owner", database))


def found(database: str, query: str) -> list[tuple[Any, ...]]:
    with as_owner(database) as connection:
        connection.execute("SET timezone = 'UTC'")
        return connection.execute(query.encode()).fetchall()


def test_a_late_event_lands_in_its_own_month(settings: Settings, database: str) -> None:
    late = datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC)
    written = lead_sink(settings).write(rows(CRM_LEADS, {}, {"event_time": late}))
    assert (written.inserted, written.rejected) == (2, ())
    query = "SELECT event_id, tableoid::regclass::text FROM analytics.crm_leads_staging ORDER BY 1"
    assert found(database, query) == [
        ("e0", "analytics.crm_leads_staging_y2026m03"),
        ("e1", "analytics.crm_leads_staging_y2019m12"),
    ]


def test_a_repeated_batch_and_an_event_that_comes_again_with_another_time_change_nothing(
    settings: Settings, database: str
) -> None:
    sink, batch = lead_sink(settings), rows(CRM_LEADS, {}, {})
    assert sink.write(batch).inserted == 2
    assert (sink.write(batch).inserted, sink.write(batch).unchanged) == (0, 2)
    again = rows(
        CRM_LEADS, {"event_time": datetime(2026, 4, 1, tzinfo=UTC), "row_version": 9, "lead_id": "other"}
    )
    assert sink.write(again).inserted == 0
    query = "SELECT event_id, lead_id, event_timestamp FROM analytics.crm_leads_staging ORDER BY 1"
    assert found(database, query) == [("e0", "T1", MARCH), ("e1", "T1", MARCH)]


def test_of_an_event_that_is_twice_in_a_batch_the_earlier_enters(settings: Settings, database: str) -> None:
    twice = rows(CRM_LEADS, {"event_id": "e", "lead_id": "later"}, {"event_id": "e", "row_version": -1})
    assert lead_sink(settings).write(twice).inserted == 1
    assert found(database, "SELECT lead_id FROM analytics.crm_leads_staging") == [("T1",)]


def test_an_id_belongs_to_its_topic_and_organization(settings: Settings, database: str) -> None:
    other = EventsSink(settings, "test", postgres_tables.CRM_OPPORTUNITIES)
    deal = {
        "source_topic": "crm.opportunities",
        "amount": Decimal("12.30"),
        "expected_close_date": date(2026, 4, 1),
    }
    assert (
        lead_sink(settings).write(rows(CRM_LEADS, {}, {"event_id": "e0", "tenant_id": "globex"})).inserted
        == 2
    )
    assert other.write(rows(CRM_OPPORTUNITIES, deal)).inserted == 1
    query = "SELECT amount, expected_close_date FROM analytics.crm_opportunities_staging"
    assert found(database, query) == [(Decimal("12.30"), date(2026, 4, 1))]
    ids = found(database, "SELECT organization_id, topic FROM analytics.crm_event_ids ORDER BY 1, 2")
    assert ids == [("acme", "crm.leads"), ("acme", "crm.opportunities"), ("globex", "crm.leads")]


def test_a_row_that_the_server_refuses_is_told_and_leaves_no_id(settings: Settings, database: str) -> None:
    written = lead_sink(settings).write(rows(CRM_LEADS, {}, {"status": "x" * 51}, {}))
    assert written.inserted == 2
    (refused,) = written.rejected
    assert (refused.source_offset, refused.tenant_id, refused.code) == (1, "acme", "22001")
    assert found(database, "SELECT event_id FROM analytics.crm_event_ids ORDER BY 1") == [("e0",), ("e2",)]


@pytest.mark.parametrize("table", [postgres_tables.CRM_LEADS, postgres_tables.CRM_LOG], ids=lambda t: t.name)
def test_every_column_that_the_sink_needs_is_there(settings: Settings, table: PostgresTable) -> None:
    EventsSink(settings, "test", table).setup()


def processed(database: str, *events: str) -> list[bool]:
    asked = "SELECT analytics.is_event_processed(event, 'acme') FROM unnest(%s::text[]) AS event"
    with as_owner(database) as connection:
        return [is_there for (is_there,) in connection.execute(asked, (list(events),))]


def test_a_staging_table_that_is_emptied_forgets_no_event_of_the_wildcard(
    settings: Settings, database: str
) -> None:
    log, sink = LogSink(settings, "test"), lead_sink(settings)
    log.write(records({"event_id": "any", "source_topic": "crm.events"}))
    sink.write(rows(CRM_LEADS, {}))
    assert processed(database, "any", "e0") == [True, True]
    sink.reset()
    assert processed(database, "any", "e0") == [True, False]
    assert sink.write(rows(CRM_LEADS, {})).inserted == 1
    assert processed(database, "any", "e0") == [True, True]


def test_a_staging_table_is_emptied_while_the_log_takes_an_event_of_the_wildcard(
    settings: Settings, database: str
) -> None:
    entered = (
        "INSERT INTO analytics.crm_event_ids VALUES ('acme', 'late', now(), 'crm.events', 0, 7, DEFAULT)"
    )
    with psycopg.connect(writer_conninfo(settings.postgres, "test", "")) as log:
        log.execute(entered)
        lead_sink(settings).reset()
    assert processed(database, "late") == [True]
