"""Sample traffic: exact counts, repeatable, and broken in just the way that each flaw says."""

import json
from collections import Counter
from datetime import UTC, datetime

import pytest

from api.events import Accepted, Discarded, Refused, read
from headwater.text import WHITESPACE
from local.traffic import FLAWS, TENANTS, Event, Kind, Mix, Way, traffic

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
MIX = Mix(duplicate=0.1, broken=0.2, no_consent=0.05)


def made(way: Way, total: int = 1000, seed: int = 1, run: str = "r-", mix: Mix = MIX) -> list[Event]:
    return list(traffic(way, total, run=run, seed=seed, mix=mix, clock=lambda: NOW))


@pytest.mark.parametrize("way", Way)
def test_counts_per_kind_are_exact(way: Way) -> None:
    expected = {Kind.VALID: 650, Kind.DUPLICATE: 100, Kind.BROKEN: 200, Kind.NO_CONSENT: 50}
    assert Counter(event.kind for event in made(way)) == expected == MIX.counts(1000)


@pytest.mark.parametrize("total", [0, 1, 2, 7])
def test_small_numbers_add_up(total: int) -> None:
    assert len(made(Way.HTTP, total)) == total == sum(MIX.counts(total).values())


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match="together at most 1"):
        Mix(broken=0.99).counts(10)


@pytest.mark.parametrize("way", [way for way in Way])
def test_the_same_seed_gives_the_same_events(way: Way) -> None:
    calm = Mix(broken=0)  # year_2036 counts from today
    assert made(way, mix=calm) == made(way, mix=calm)
    assert made(way, seed=2) != made(way)


def test_keys_are_unique_but_for_duplicates_and_differ_between_runs() -> None:
    first, second = made(Way.HTTP), made(Way.HTTP, run="s-")
    keys = [event.key for event in first if event.kind is not Kind.DUPLICATE]
    assert len(set(keys)) == len(keys)
    assert not set(keys) & {event.key for event in second}


@pytest.mark.parametrize("way", Way)
def test_a_duplicate_repeats_an_earlier_valid_event(way: Way) -> None:
    valid: set[tuple[str, str, bytes]] = set()
    for event in made(way):
        if event.kind is Kind.DUPLICATE:
            assert (event.tenant, event.key, event.body) in valid
        if event.kind is Kind.VALID:
            valid.add((event.tenant, event.key, event.body))


@pytest.mark.parametrize("way", Way)
def test_every_flaw_of_a_way_occurs(way: Way) -> None:
    seen = {event.flaw for event in made(way) if event.kind is Kind.BROKEN}
    assert seen == {name for name, flaw in FLAWS.items() if way in flaw.ways}


def test_bodies_are_about_450_bytes_and_some_names_are_not_ascii() -> None:
    bodies = [event.body for event in made(Way.HTTP) if event.kind is Kind.VALID]
    assert 400 <= sum(map(len, bodies)) / len(bodies) <= 650
    assert any(not body.isascii() for body in bodies)


def test_the_api_judges_each_event_as_meant() -> None:
    verdicts = {
        Kind.VALID: Accepted,
        Kind.DUPLICATE: Accepted,
        Kind.BROKEN: Refused,
        Kind.NO_CONSENT: Discarded,
    }
    for event in made(Way.HTTP):
        verdict = read(event.body, event.tenant, event.key, NOW)
        assert isinstance(verdict, verdicts[event.kind]), event.flaw
        if event.flaw and isinstance(verdict, Refused):
            assert FLAWS[event.flaw].code in {fault.code for fault in verdict.faults}, event.flaw


def test_events_for_kafka_name_tenant_key_and_time_and_are_json_unless_broken() -> None:
    for event in made(Way.KAFKA):
        if event.kind is not Kind.BROKEN:
            document = json.loads(event.body)
            assert document["tenant_id"] == event.tenant in TENANTS
            assert document["idempotency_key"] == event.key == event.key.strip(WHITESPACE)
            assert document["received_at"] == "2025-06-01T12:00:00.000Z"
            assert document["payload"]["consent"] is (event.kind is not Kind.NO_CONSENT)


def test_flaws_that_only_producers_make() -> None:
    broken = {event.flaw: event.body for event in made(Way.KAFKA) if event.kind is Kind.BROKEN}
    assert len(broken["too_large"]) > 1 << 20
    assert json.loads(broken["year_2036"])["received_at"] > "2034"
    assert json.loads(broken["no_tenant"])["tenant_id"] is None
    assert json.loads(broken["bad_event_id"])["event_id"] == "17"
