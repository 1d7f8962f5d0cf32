# ruff: noqa: S608 - the test's own words
"""reconcile --repair of the CRM's staging tables: each event once, in its month, with its id."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from schemas.tables import CRM_CONTACTS, CRM_LEADS, CRM_OPPORTUNITIES
from tests.builders import arrow_schema
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.repair_harness import NOTHING, Lake, asked, did, table_of

MARCH = datetime(2026, 3, 1, 12, tzinfo=UTC)
COUNT = 30
TABLE, IDS = "analytics.crm_leads_staging", "analytics.crm_event_ids"
SIDE = "postgres.crm_leads_staging"


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "event_type": "made", "tenant_id": "acme", "event_time": MARCH,
        "lead_id": "L", "status": "new", "row_version": number + 10, "refined_at": MARCH,
        "source_topic": "crm.leads", "source_partition": 0, "source_offset": number, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture
def lake(spark: SparkSession, database: str, tmp_path: Path) -> Lake:
    did(database, f"TRUNCATE {TABLE}, {IDS}")
    made = Lake(spark, settings_of(database, lake=str(tmp_path / "lake")), "crm", "postgres")
    again = event(
        3, event_time=datetime(2026, 4, 1, tzinfo=UTC), refined_at=datetime.now(UTC), row_version=99
    )
    made.enter(CRM_LEADS, table_of([*map(event, range(COUNT)), again], arrow_schema(CRM_LEADS.columns)))
    for table in (CRM_CONTACTS, CRM_OPPORTUNITIES):
        made.enter(table, table_of([], arrow_schema(table.columns)))
    made.deliver()
    return made


def spoil(database: str) -> None:
    """Removed with its id and without, older, changed, moved to another time, and one from nowhere."""
    columns = (
        "organization_id, event_timestamp, event_type, lead_id, row_version, source_topic, source_offset"
    )
    did(
        database,
        f"DELETE FROM {TABLE} WHERE event_id IN ('e1', 'e2')",
        f"DELETE FROM {IDS} WHERE event_id = 'e2'",
        f"UPDATE {TABLE} SET row_version = 1, status = 'old' WHERE event_id = 'e4'",
        f"UPDATE {TABLE} SET status = 'ghost' WHERE event_id = 'e5'",
        f"UPDATE {TABLE} SET event_timestamp = event_timestamp + interval '1 day' WHERE event_id = 'e6'",
        f"INSERT INTO {TABLE} (event_id, source_partition, {columns}) SELECT 'nobody', 0, {columns}"
        f" FROM {TABLE} WHERE event_id = 'e7'",
        f"INSERT INTO {IDS} SELECT organization_id, 'nobody', event_timestamp, topic, partition,"
        f" \"offset\" FROM {IDS} WHERE event_id = 'e7'",
    )


def rows(database: str, table: str) -> list[tuple[Any, ...]]:
    names = "event_id, event_timestamp, " + ("status, row_version" if table == TABLE else "topic")
    return asked(database, f"SELECT {names} FROM {table} ORDER BY event_id")


def test_events_are_entered_anew_with_their_ids(lake: Lake, database: str) -> None:
    before = rows(database, TABLE), rows(database, IDS)
    assert len(before[0]) == len(before[1]) == COUNT
    spoil(database)
    assert lake.counted() == [
        f"{SIDE}: 3 rows missing",
        f"{SIDE}: 2 rows extra",
        f"{SIDE}: 1 rows older",
        f"{SIDE}: 1 rows different",
    ]
    found = lake.reconcile(repair=True)[SIDE]
    assert found["repaired"] == {"missing": 3, "extra": 2, "older": 1, "different": 1}
    assert found["left"] == NOTHING
    assert (rows(database, TABLE), rows(database, IDS)) == before
    lake.reconcile()


@pytest.mark.parametrize("point", ["after_write", "in_transaction"])
def test_a_repair_that_ends_in_between_leaves_nothing_worse(
    lake: Lake, database: str, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    before = rows(database, TABLE), rows(database, IDS)
    spoil(database)
    left = lake.left_by_a_crash(monkeypatch, point)
    assert left == [f"{SIDE}: 3 rows missing", f"{SIDE}: 1 rows older", f"{SIDE}: 1 rows different"]
    assert lake.reconcile(repair=True)[SIDE]["left"] == NOTHING
    assert (rows(database, TABLE), rows(database, IDS)) == before
