"""A query as the runtime halts it: the batch under way ends, none begins. The stream stands for Spark's."""

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headwater.errors import HeadwaterError
from jobs.pulse import Pulse
from jobs.queries import Context
from jobs.started import StartedLoop, StartedQuery, Way
from jobs.turns import Turns
from tests.integration.broker import eventually


class Stream:
    """In a batch or waiting for the next, until it is stopped."""

    def __init__(self) -> None:
        self.isActive, self.in_batch, self.stops = True, True, 0

    @property
    def status(self) -> dict[str, Any]:
        return {"isTriggerActive": self.in_batch, "message": "Processing new data"}

    def stop(self) -> None:
        self.isActive, self.stops = False, self.stops + 1

    def exception(self) -> None:
        return None


class Refine:
    name, every_s, reads, writes = "refine.crm", 0.0, (), ()

    def __init__(self) -> None:
        self.batches: list[int] = []

    def write(self, _batch: Any, number: int) -> None:
        self.batches.append(number)


def way(unwanted: threading.Event, pulse: Pulse) -> Way:
    context = Context(cast(Any, None), cast(Any, SimpleNamespace()), "run")
    turns = Turns(Counter(), lambda: 2)
    return Way(context, False, threading.Event(), turns, lambda: None, unwanted.is_set, pulse)


@pytest.fixture
def unwanted() -> threading.Event:
    return threading.Event()


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    made = Stream()
    monkeypatch.setattr(StartedQuery, "_start", lambda _: made)
    return made


def write(started: StartedQuery, number: int) -> None:
    """As Spark calls it for a batch."""
    started._write(cast(Any, None), number)  # noqa: SLF001 - Spark's entrance


def test_a_halt_waits_for_nothing_and_ends_the_stream_between_two_batches(
    stream: Stream, unwanted: threading.Event
) -> None:
    started = StartedQuery(cast(Any, Refine()), way(unwanted, Pulse()))
    assert (started.told_to_stop, started.halt(), stream.stops) == (False, False, 0)
    stream.in_batch = False
    assert (started.halt(), stream.stops, started.told_to_stop) == (True, 1, True)
    assert (started.halt(), stream.stops) == (True, 1)


def test_a_batch_that_comes_when_it_is_not_wanted_any_more_is_not_begun(
    stream: Stream, unwanted: threading.Event
) -> None:
    query, pulse = Refine(), Pulse()
    started = StartedQuery(cast(Any, query), way(unwanted, pulse))
    write(started, 0)
    assert (query.batches, pulse.batch_ms_p95 is not None) == ([0], True)
    unwanted.set()
    with pytest.raises(HeadwaterError, match="not begun"):
        write(started, 1)
    assert (query.batches, started.told_to_stop) == ([0], True)
    # It waits at the gate, in a batch as Spark sees it: it can be ended now.
    assert (started.halt(), stream.stops) == (True, 1)


def test_a_loop_that_waits_for_its_next_look_ends_at_once(unwanted: threading.Event) -> None:
    class Slow:
        name, every_s, closed = "deliver.crm.enqueued", 3600.0, 0
        looked = threading.Event()

        def prepare(self) -> None:
            pass

        def step(self) -> int:
            self.looked.set()
            return 0

        def close(self) -> None:
            self.closed += 1

    loop = Slow()
    started = StartedLoop(loop, way(unwanted, Pulse()))
    assert loop.looked.wait(5) and started.active and not started.told_to_stop
    eventually(started.halt, "it ends", 5)
    assert (loop.closed, started.fault, started.told_to_stop) == (1, None, True)


def test_a_loop_that_is_not_wanted_any_more_begins_no_step_and_does_not_count_as_done(
    unwanted: threading.Event,
) -> None:
    class Busy:
        name, every_s, steps = "deliver.crm.enqueued", 0.0, 0

        def prepare(self) -> None:
            pass

        def step(self) -> int:
            self.steps += 1
            unwanted.set()
            return 1

        def close(self) -> None:
            pass

    loop = Busy()
    started = StartedLoop(loop, way(unwanted, Pulse()))
    eventually(lambda: not started.active, "it ends", 5)
    assert (loop.steps, started.told_to_stop, started.fault) == (1, True, None)
