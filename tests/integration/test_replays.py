"""analytics.replays on a real PostgreSQL, as the jobs see it."""

from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from headwater.settings import Settings
from jobs.replay import Replaying
from schemas.patch import patch_of
from sources.letters.wanted import Wanted
from sources.replays import Replays
from tests.integration.outbox_harness import context, migrated_database, settings_of


@pytest.fixture
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        yield settings_of(name)


@pytest.fixture
def replays(settings: Settings) -> Iterator[Replays]:
    made = Replays(settings, "test")
    yield made
    made.close()


def test_those_that_are_due_are_told_the_oldest_first_without_those_that_are_named(replays: Replays) -> None:
    one, two, three, ended = (uuid4() for _ in range(4))
    for replay_id in (ended, one, two, three):
        replays.ask(replay_id, Wanted(tenant="acme"), None, "test", "a test")
    replays.failed(ended, "a test")

    def due(limit: int, *besides: UUID) -> list[UUID]:
        return [found.replay_id for found in replays.due(limit, besides)]

    assert due(5) == [one, two, three]
    assert due(1) == [one]
    assert due(1, one) == [two]
    assert due(5, two, uuid4()) == [one, three]
    assert due(5, one, two, three) == []


def test_a_patch_that_postgresql_makes_too_long_fails_its_replay_and_not_the_loop(
    settings: Settings, replays: Replays
) -> None:
    replay_id = uuid4()
    # Kept as JSONB, 1e300 is a one with three hundred noughts.
    patch = patch_of([{"op": "add", "path": "/a", "value": [Decimal("1e300")] * 4000}])
    replays.ask(replay_id, Wanted(tenant="acme"), patch, "test", "a test")
    loop = Replaying(context(settings), "leads")
    assert [loop.step(), loop.step()] == [1, 0]
    loop.close()
    ended = replays.find(replay_id)
    assert (ended.status, (ended.error or "")[:13]) == ("failed", "the patch has")
