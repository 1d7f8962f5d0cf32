"""The lease of an import: what ends it, and that nothing does once a transaction holds the job."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, cast

import pytest

from headwater.errors import TransientError
from jobs import import_lease
from jobs.import_lease import BrokenOffError, Lease, Why
from sources.import_jobs import Counts
from sources.import_queue import Beat


class Answers:
    """A queue whose heartbeats find this."""

    def __init__(self, *found: Beat | Exception) -> None:
        self.found = list(found)
        self.told: list[Counts] = []
        self.closed = False
        self.marked = False

    def beat(self, _claim: Any, counts: Counts) -> Beat:
        self.told.append(counts)
        answer = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def appending(self, _claim: Any) -> None:
        self.marked = True

    def close(self) -> None:
        self.closed = True


class OneJob:
    class job:
        id = uuid.UUID(int=1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_lease, "_POLL_S", 0.002)


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not done():
        assert time.monotonic() < end
        time.sleep(0.002)


def lease(
    queue: Answers, stopping: threading.Event | None = None, interrupted: list[int] | None = None
) -> Lease:
    calls = [] if interrupted is None else interrupted
    return Lease(
        cast(Any, queue), cast(Any, OneJob), 0.6, lambda: Counts(rows_read=7),
        stopping or threading.Event(), lambda: calls.append(1),
    )  # fmt: skip


def why_it_broke_off(held: Lease) -> Why:
    with pytest.raises(BrokenOffError) as broken:
        held.check()
    return broken.value.why


def test_heartbeats_tell_how_far_it_is_and_keep_the_job() -> None:
    queue = Answers(Beat.KEPT)
    with lease(queue) as held:
        until(lambda: len(queue.told) >= 3)
        held.check()
    assert queue.told[0] == Counts(rows_read=7)
    assert queue.closed


@pytest.mark.parametrize(("found", "why"), [(Beat.LOST, Why.LOST), (Beat.CANCEL, Why.CANCELLED)])
def test_what_a_heartbeat_finds_interrupts_the_work_until_it_hears_of_it(found: Beat, why: Why) -> None:
    interrupted: list[int] = []
    with lease(Answers(Beat.KEPT, found), interrupted=interrupted) as held:
        until(lambda: len(interrupted) >= 2)
        assert why_it_broke_off(held) is why


def test_a_worker_that_is_told_to_stop_breaks_off() -> None:
    stopping, interrupted = threading.Event(), list[int]()
    with lease(Answers(Beat.KEPT), stopping, interrupted) as held:
        held.check()
        stopping.set()
        until(lambda: bool(interrupted))
        assert why_it_broke_off(held) is Why.STOPPING


def test_heartbeats_that_do_not_arrive_for_a_whole_lease_mean_that_it_is_lost() -> None:
    queue = Answers(TransientError("away"))
    with lease(queue) as held:
        until(lambda: held.why is not None)
        assert held.why is Why.LOST


def test_one_heartbeat_that_does_not_arrive_ends_nothing() -> None:
    queue = Answers(TransientError("away"), Beat.KEPT)
    with lease(queue) as held:
        until(lambda: len(queue.told) >= 4)
        held.check()


def test_nothing_interrupts_a_job_that_a_transaction_holds() -> None:
    stopping, interrupted = threading.Event(), list[int]()
    queue = Answers(Beat.CANCEL)
    with lease(queue, stopping, interrupted) as held:
        held.let_finish()
        stopping.set()
        until(lambda: len(queue.told) >= 2)
        held.check()
    assert interrupted == []


def test_a_job_that_was_lost_before_is_not_finished() -> None:
    with lease(Answers(Beat.LOST)) as held:
        until(lambda: held.why is not None)
        with pytest.raises(BrokenOffError):
            held.let_finish()


def test_a_job_that_proves_to_be_lost_is_not_marked_for_good() -> None:
    queue = Answers(Beat.LOST)
    with lease(queue) as held:
        held.let_finish()
        until(lambda: held.why is not None)
        with pytest.raises(BrokenOffError):
            held.no_way_back()
    assert not queue.marked


def test_nothing_is_asked_any_more_behind_the_point_of_no_return() -> None:
    queue = Answers(Beat.KEPT)
    with lease(queue) as held:
        held.let_finish()
        held.no_way_back()
        assert queue.marked
        asked = len(queue.told)
        queue.found = [Beat.CANCEL]
        held.check()
    assert len(queue.told) == asked


def test_work_that_was_interrupted_ends_as_what_interrupted_it() -> None:
    with pytest.raises(BrokenOffError) as broken, lease(Answers(Beat.CANCEL)) as held:
        until(lambda: held.why is not None)
        raise ZeroDivisionError
    assert broken.value.why is Why.CANCELLED
