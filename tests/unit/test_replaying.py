"""The loop that plans and does replays: whose turn it is when some of them meet an outage."""

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from headwater.errors import SetupError, TransientError
from headwater.settings import load_settings
from jobs import replay as module
from jobs.queries import Context
from jobs.replay import Replaying

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))


class Replays:
    """The table: what is requested, the oldest first, and what became of it."""

    def __init__(self) -> None:
        self.open = [ONE, TWO, THREE]
        self.ended: dict[UUID, str] = {}

    def due(self, limit: int, besides: Collection[UUID] = ()) -> list[Any]:
        found = [one for one in self.open if one not in besides][:limit]
        return [SimpleNamespace(replay_id=one, status="requested", wanted=one, patch=None) for one in found]

    def planned(self, replay_id: UUID, *_: Any) -> None:
        self._end(replay_id, "planned")

    def failed(self, replay_id: UUID, _why: str) -> None:
        self._end(replay_id, "failed")

    def _end(self, replay_id: UUID, how: str) -> None:
        self.open.remove(replay_id)
        self.ended[replay_id] = how


class Loop:
    """Its steps, with faults as the test wants them, and in which order replays were tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tried: list[UUID] = []
        self.faults: dict[UUID, Exception] = {}
        self.table = Replays()
        monkeypatch.setattr(module, "Replays", lambda *_: self.table)
        monkeypatch.setattr(module, "planned", self._plan)
        self._loop = Replaying(Context(cast(Any, None), load_settings("local"), "run"), "leads")

    def _plan(self, _context: Context, wanted: UUID, _patch: None) -> Any:
        self.tried.append(wanted)
        if wanted in self.faults:
            raise self.faults[wanted]
        return SimpleNamespace(report={}, digest="")

    def step(self) -> int | None:
        """None for an outage."""
        try:
            return self._loop.step()
        except TransientError:
            return None


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


def test_one_that_meets_an_outage_lets_the_others_pass_and_is_tried_again(loop: Loop) -> None:
    loop.faults = {ONE: TransientError("away"), TWO: SetupError("wrong")}
    # An outage is told each time, so that the runtime makes a pause.
    assert [loop.step() for _ in range(5)] == [None, 1, 1, None, None]
    assert loop.tried == [ONE, TWO, THREE, ONE, ONE]
    loop.faults = {}
    assert [loop.step(), loop.step()] == [1, 0]
    assert loop.table.ended == {ONE: "planned", TWO: "failed", THREE: "planned"}


def test_when_all_meet_it_they_take_turns(loop: Loop) -> None:
    loop.faults = dict.fromkeys((ONE, TWO, THREE), TransientError("away"))
    assert [loop.step() for _ in range(5)] == [None] * 5
    assert loop.tried == [ONE, TWO, THREE, ONE, TWO]


def test_without_outages_the_oldest_goes_first(loop: Loop) -> None:
    assert [loop.step() for _ in range(4)] == [1, 1, 1, 0]
    assert loop.tried == [ONE, TWO, THREE]
