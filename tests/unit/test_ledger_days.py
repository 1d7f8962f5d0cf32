"""ops.ledger by stream, tenant and day: what refine has entered, and nothing else."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from headwater import delta_log
from headwater.ledger import TABLE
from headwater.settings import Settings
from headwater.tables import table_path
from sources.ledger_days import ALL, Counts, Series, ledger_days
from tests.conftest import settings_at

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("query", "stream", "tenant_id")],
        *[(name, pa.int64()) for name in ("in_rows", "duplicate", "dead")],
        ("written_at", pa.timestamp("us", tz="UTC")),
    ]
)
Entry = tuple[str, str | None, float, int, int, int]


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    found = settings_at(tmp_path)
    wanted = {"delta.dataSkippingStatsColumns": "query,stream,written_at"}
    delta_log.create(table_path(found, TABLE), SCHEMA, [], wanted)
    return found


def enter(lake: Settings, *entries: Entry) -> None:
    """Query, tenant, hours ago, rows, duplicates, dead letters; all in one file."""
    rows = [
        {
            "query": query, "stream": "lead.ingest", "tenant_id": tenant, "in_rows": rows,
            "duplicate": duplicate, "dead": dead, "written_at": NOW - timedelta(hours=ago),
        }
        for query, tenant, ago, rows, duplicate, dead in entries
    ]  # fmt: skip
    delta_log.append_rows(pa.Table.from_pylist(rows, schema=SCHEMA), table_path(lake, TABLE), None)


def found(lake: Settings, weeks: int = 4) -> dict[str, Series]:
    return {one.tenant_id: one for one in ledger_days(lake, NOW, weeks)}


def test_rows_are_counted_by_day_and_for_the_last_24_hours(lake: Settings) -> None:
    enter(lake, ("refine.leads", "acme", 1, 10, 1, 2), ("refine.leads", "acme", 13, 20, 0, 0))
    enter(lake, ("refine.leads", "acme", 25, 40, 3, 0))
    acme = found(lake)["acme"]
    assert acme.days == {date(2026, 3, 29): Counts(10, 1, 2), date(2026, 3, 28): Counts(60, 3, 0)}
    assert acme.recent == Counts(30, 1, 2)
    assert acme.last_at == NOW - timedelta(hours=1)


def test_all_has_everybody_and_what_is_nobodys(lake: Settings) -> None:
    enter(lake, ("refine.leads", "acme", 1, 10, 0, 0), ("refine.leads", "globex", 2, 5, 0, 0))
    enter(lake, ("refine.leads", None, 3, 2, 0, 2))
    series = found(lake)
    assert series.keys() == {"acme", "globex", ALL}
    assert series[ALL].recent == Counts(17, 0, 2)


def test_only_what_refine_took_in_counts(lake: Settings) -> None:
    enter(lake, ("ingest.leads", None, 1, 10, 0, 0), ("refine.leads", "acme", 1, 0, 0, 0))
    assert found(lake) == {}


def test_what_is_older_than_the_weeks_plays_no_part(lake: Settings) -> None:
    enter(lake, ("refine.leads", "gone", 24 * 40, 10, 0, 0), ("refine.leads", "acme", 24 * 10, 10, 0, 0))
    enter(lake, ("refine.leads", "gone", 24 * 50, 10, 0, 0))
    assert found(lake).keys() == {"acme", ALL}
    assert found(lake, weeks=1) == {}


def test_without_a_ledger_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert ledger_days(settings_at(tmp_path), NOW, 4) == []
