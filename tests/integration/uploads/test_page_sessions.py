"""Sessions of the page in a real Redis, with a clock of the test's own: idle, old, ended, too many."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from api.page.sessions import IDLE_S, LIFE_S, MOST_EACH, TOUCH_EVERY_S, Session, Sessions
from api.security import KeyRecord, Principal
from headwater.settings import load_settings

NOW = 1_900_000_000.5
Story = Callable[[Sessions, "Clock"], Awaitable[None]]


class Clock:
    """Says what it is told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Key:
    """A key of the test's own."""

    def __init__(self) -> None:
        self.id = f"test.{secrets.token_hex(8)}"
        owner = Principal(f"key:{self.id}", "acme", frozenset(), f"key:{self.id}")
        self.record = KeyRecord(secrets.token_hex(32), owner)


def told(story: Story) -> None:
    """Run it against Redis."""

    async def run() -> None:
        clock = Clock()
        sessions = Sessions(load_settings(), clock)
        try:
            await story(sessions, clock)
        finally:
            await sessions.close()

    asyncio.run(run())


def test_a_session_is_its_keys_and_nobody_elses() -> None:
    async def story(sessions: Sessions, _clock: Clock) -> None:
        key, other = Key(), Key()
        session = await sessions.open(key.id, key.record)
        assert await sessions.holds(session, key.record)
        assert not await sessions.holds(session, other.record)
        assert not await sessions.holds(Session(other.id, session.ends_at, session.token), other.record)
        replaced = KeyRecord(secrets.token_hex(32), key.record.principal)
        assert not await sessions.holds(session, replaced)

    told(story)


def test_a_session_ends_when_nobody_used_it_and_lives_on_when_somebody_did() -> None:
    async def story(sessions: Sessions, clock: Clock) -> None:
        key = Key()
        used, idle = [await sessions.open(key.id, key.record) for _ in range(2)]
        clock.now += IDLE_S - 1
        assert await sessions.holds(used, key.record)
        clock.now += TOUCH_EVERY_S
        assert await sessions.holds(used, key.record)
        assert not await sessions.holds(idle, key.record)

    told(story)


def test_a_session_ends_however_often_it_is_used_and_its_end_cannot_be_moved() -> None:
    async def story(sessions: Sessions, clock: Clock) -> None:
        key = Key()
        session = await sessions.open(key.id, key.record)
        while clock.now < NOW + LIFE_S - IDLE_S:
            clock.now += IDLE_S / 2
            assert await sessions.holds(session, key.record)
        clock.now = NOW + LIFE_S
        assert not await sessions.holds(session, key.record)
        moved = Session(session.key_id, session.ends_at + LIFE_S, session.token)
        assert not await sessions.holds(moved, key.record)

    told(story)


def test_an_ended_session_is_not_brought_back_by_a_request_that_was_under_way() -> None:
    async def story(sessions: Sessions, clock: Clock) -> None:
        key = Key()
        session = await sessions.open(key.id, key.record)
        clock.now += TOUCH_EVERY_S
        await asyncio.gather(
            *(sessions.holds(session, key.record) for _ in range(8)), sessions.end(session, key.record)
        )
        assert not await sessions.holds(session, key.record)

    told(story)


def test_one_session_too_many_ends_the_one_that_was_idle_longest() -> None:
    async def story(sessions: Sessions, clock: Clock) -> None:
        key = Key()
        first = await sessions.open(key.id, key.record)
        rest = []
        for _ in range(MOST_EACH):
            clock.now += 1
            rest.append(await sessions.open(key.id, key.record))
        assert not await sessions.holds(first, key.record)
        assert [await sessions.holds(session, key.record) for session in rest] == [True] * MOST_EACH

    told(story)
