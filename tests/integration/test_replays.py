"""analytics.replays on a real PostgreSQL, as the jobs see it."""

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from sources.letters.wanted import Wanted
from sources.replays import Replays
from tests.integration.outbox_harness import migrated_database, settings_of


@pytest.fixture
def replays() -> Iterator[Replays]:
    with migrated_database() as name:
        made = Replays(settings_of(name), "test")
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
