"""jobs maintain on a real server: months go whole by the retention, those to come are there, and reconcile
compares what is kept."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any, cast

import psycopg
import pytest

from headwater.clock import months_before, utc_now
from headwater.errors import SetupError, TransientError
from headwater.settings import Settings
from jobs.chosen import ALL
from jobs.maintain import kept_from, maintain
from jobs.queries import Context
from jobs.reconcile import SIDES
from local.postgres import dsn
from sinks.postgres_events import BY_MONTH
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.uploads.imports import NoSpark

KEPT = 2
NOW = utc_now().date()
OLD, FIRST = months_before(NOW, KEPT + 1), months_before(NOW, KEPT)
PARTS = (
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = format('analytics.%%I', %s::text)::regclass ORDER BY relname"
)


@pytest.fixture
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        made = settings_of(name)
        yield made.model_copy(update={"retention": made.retention.model_copy(update={"crm_months": KEPT})})


@pytest.fixture
def owner(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    name = settings.postgres.owner_dsn.rsplit("/", 1)[1]
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", name), autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection


def months(owner: psycopg.Connection[Any], table: str) -> list[str]:
    return [row[0] for row in owner.execute(PARTS, (table,))]


def named(table: str, month: date) -> str:
    return f"{table}_y{month:%Y}m{month:%m}"


def put(owner: psycopg.Connection[Any], event_id: str, month: date) -> None:
    """A row of staging, as delivered."""
    owner.execute("SELECT analytics.ensure_partition('crm_leads_staging', %s)", (month,))
    owner.execute(
        "INSERT INTO analytics.crm_leads_staging (event_id, organization_id, event_timestamp, event_type,"
        " lead_id, row_version, source_topic, source_partition, source_offset)"
        " VALUES (%s, 'acme', %s, 'made', 'T', 1, 'crm.leads', 0, 1)",
        (event_id, datetime(month.year, month.month, 1, tzinfo=UTC)),
    )


def done(settings: Settings) -> dict[str, Any]:
    return maintain(Context(cast(Any, NoSpark()), settings, "test"))


def test_old_months_go_whole_and_those_to_come_are_made(
    settings: Settings, owner: psycopg.Connection[Any]
) -> None:
    names = [table.name for table in BY_MONTH]
    for name in names:
        for month in (date(2001, 5, 1), OLD, FIRST):
            owner.execute("SELECT analytics.ensure_partition(%s, %s)", (name, month))
        owner.execute(f"DROP TABLE analytics.{named(name, NOW)}")
    found = done(settings)
    assert found == {"kept_from": FIRST.isoformat(), "dropped": dict.fromkeys(names, 2), "made": len(names)}
    for name in names:
        left = months(owner, name)
        assert left[0] == named(name, FIRST) and named(name, NOW) in left
        assert left[-1] > named(name, NOW)
    assert done(settings) == found | {"dropped": dict.fromkeys(names, 0), "made": 0}


def test_without_a_retention_nothing_goes(settings: Settings, owner: psycopg.Connection[Any]) -> None:
    owner.execute("SELECT analytics.ensure_partition('crm_events_log', '2001-05-01')")
    retention = settings.retention.model_copy(update={"crm_months": None})
    found = done(settings.model_copy(update={"retention": retention}))
    assert (found["kept_from"], found["dropped"]) == (None, {})
    assert months(owner, "crm_events_log")[0] == "crm_events_log_y2001m05"


def test_an_event_whose_month_went_stays_processed_and_is_not_compared(
    settings: Settings, owner: psycopg.Connection[Any]
) -> None:
    put(owner, "old", OLD)
    put(owner, "kept", FIRST)
    owner.execute(
        "INSERT INTO analytics.crm_event_ids"
        ' (organization_id, event_id, event_timestamp, topic, partition, "offset")'
        " VALUES ('acme', 'old', %s, 'crm.leads', 0, 1)",
        (OLD,),
    )
    (side,) = [side for side in SIDES["crm", "postgres"] if side.name.endswith("leads_staging")]
    # Not before the month is dropped, nor afterwards.
    assert len(list(side.rows(settings, ALL))) == 1
    done(settings)
    assert len(list(side.rows(settings, ALL))) == 1
    assert owner.execute("SELECT event_id FROM analytics.crm_leads_staging").fetchall() == [("kept",)]
    assert owner.execute("SELECT analytics.is_event_processed('old')").fetchone() == (True,)
    assert side.since(settings) == kept_from(settings) == FIRST


def test_a_server_that_is_away_or_refuses_the_owner_is_told(settings: Settings) -> None:
    for change, fault in (("port=1", TransientError), ("user=headwater_nobody", SetupError)):
        address = psycopg.conninfo.make_conninfo(settings.postgres.owner_dsn, **dict([change.split("=")]))
        postgres = settings.postgres.model_copy(update={"owner_dsn": address})
        with pytest.raises(fault, match=r"^maintain: SQLSTATE"):
            done(settings.model_copy(update={"postgres": postgres}))
