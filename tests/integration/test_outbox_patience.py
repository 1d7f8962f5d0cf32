"""Announcements whose lead is missing, on a real server: how long they wait, and which are given up."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from headwater.settings import Settings
from sinks import outbox_reader
from sinks.outbox_reader import OutboxReader
from tests.integration.outbox_harness import Leads, emptied_leads, lead, migrated_database, settings_of


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        yield settings_of(name)


@pytest.fixture
def leads(settings: Settings) -> Iterator[Leads]:
    with emptied_leads(settings) as made:
        yield made


def look(settings: Settings) -> tuple[int, int]:
    """How many rows are given up now, and how many can be relayed then."""
    reader = OutboxReader(settings, "deliver.leads.captured")
    try:
        return reader.drop_gone(), len(reader.due(10))
    finally:
        reader.close()


def missing_for(leads: Leads, hours: int) -> None:
    """So long ago the relay first missed the leads that it misses."""
    aged = "UPDATE lead_outbox SET missing_since = now() - %s WHERE missing_since IS NOT NULL"
    leads.connection.execute(aged, (timedelta(hours=hours),))


def test_an_old_row_waits_for_its_lead_when_leads_has_just_been_emptied(
    leads: Leads, settings: Settings
) -> None:
    leads.write(lead("a"))
    leads.connection.execute("UPDATE lead_outbox SET created_at = now() - interval '73 h'")
    leads.sink.reset()
    assert [look(settings), look(settings)] == [(0, 0)] * 2
    leads.write(lead("a"))
    assert look(settings) == (0, 1)


def test_a_lead_that_stays_gone_for_longer_than_the_patience_is_given_up(
    leads: Leads, settings: Settings
) -> None:
    leads.write(lead("a"), lead("b"))
    leads.sink.reset()
    look(settings)
    missing_for(leads, hours=71)
    assert look(settings) == (0, 0)
    leads.write(lead("b"))
    missing_for(leads, hours=73)
    assert [look(settings), look(settings)] == [(1, 1), (0, 1)]


def test_a_lead_that_was_back_in_an_older_version_begins_its_patience_anew(
    leads: Leads, settings: Settings
) -> None:
    leads.write(lead("a", 5))
    leads.sink.reset()
    look(settings)
    missing_for(leads, hours=73)
    leads.write(lead("a", 4))
    assert look(settings) == (0, 0)
    leads.sink.reset()
    assert look(settings) == (0, 0)
    leads.write(lead("a", 5))
    assert look(settings) == (0, 1)


def test_what_was_given_up_waits_anew_when_all_is_relayed_again(leads: Leads, settings: Settings) -> None:
    leads.write(lead("a"))
    leads.sink.reset()
    look(settings)
    missing_for(leads, hours=73)
    assert look(settings) == (1, 0)
    reader = OutboxReader(settings, "deliver.leads.captured")
    reader.forget_relayed()
    reader.close()
    assert look(settings) == (0, 0)
    leads.write(lead("a"))
    assert look(settings) == (0, 1)


def test_a_look_takes_so_many_rows_and_the_next_one_takes_the_rest(
    leads: Leads, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_reader, "ROWS_AT_ONCE", 2)
    leads.write(lead("a"), lead("b"), lead("c"))
    leads.sink.reset()
    look(settings)
    missing = "SELECT count(missing_since) FROM lead_outbox"
    assert leads.ask(missing) == [(2,)]
    look(settings)
    assert leads.ask(missing) == [(3,)]
    missing_for(leads, hours=73)
    assert [look(settings) for _ in range(3)] == [(2, 0), (1, 0), (0, 0)]
