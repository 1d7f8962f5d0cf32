"""The runtime with loops: steps until nothing is due, restarts after outages, what a person must mend."""

import os
import signal
import threading
import time
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from headwater.clock import StepWatch
from headwater.errors import LockedError, SetupError, TransientError
from headwater.locks import instance_lock
from headwater.settings import Settings
from jobs import runtime
from jobs.queries import Context
from jobs.runtime import Runtime
from tests.integration.broker import eventually


class Plan:
    """A loop that does as its list says: counts to return, faults to raise. Then it is idle."""

    every_s = 0.01

    def __init__(self, name: str, *steps: int | Exception) -> None:
        self.name = name
        self.steps = list(steps)
        self.seen: list[str] = []
        self.closed = 0

    def prepare(self) -> None:
        self.seen.append("prepare")

    def close(self) -> None:
        self.closed += 1

    def step(self) -> int:
        found = self.steps.pop(0) if self.steps else 0
        if isinstance(found, Exception):
            self.seen.append("fault")
            raise found
        self.seen.append(f"step {found}")
        return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_POLL_S", 0.01)


def run(settings: Settings, *loops: Any, once: bool = True) -> None:
    Runtime(Context(cast(Any, None), settings, "run"), once=once).run(loops)


def test_once_steps_until_nothing_is_due(settings: Settings) -> None:
    plan = Plan("deliver.x.y", 3, 1)
    run(settings, plan)
    assert plan.seen == ["prepare", "step 3", "step 1", "step 0"]


def test_after_an_outage_it_prepares_again_and_goes_on(settings: Settings) -> None:
    plan = Plan("deliver.x.y", 1, TransientError("away"), TransientError("away"), 2)
    run(settings, plan)
    assert plan.seen == ["prepare", "step 1", "fault", "prepare", "fault", "prepare", "step 2", "step 0"]
    assert plan.closed == 3


def test_an_outage_that_outlasts_our_patience_ends_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_ONCE_PATIENCE_S", 0.0)
    plan = Plan("deliver.x.y", TransientError("away"), TransientError("away"), 5)
    with pytest.raises(TransientError, match="away"):
        run(settings, plan)
    assert "step 5" not in plan.seen


def test_what_a_person_must_mend_stays_down_while_the_others_go_on(settings: Settings) -> None:
    broken, well = Plan("deliver.x.broken", SetupError("mend me")), Plan("deliver.x.well", 1, 1, 1)
    with pytest.raises(SetupError, match="mend me"):
        run(settings, broken, well)
    assert (broken.seen, well.seen[-1]) == (["prepare", "fault"], "step 0")
    assert [told_stopped(plan) for plan in (broken, well)] == [1, 0]
    run(settings, Plan(broken.name))
    assert told_stopped(broken) == 0


def told_stopped(plan: Plan) -> float | None:
    return REGISTRY.get_sample_value("headwater_query_stopped", {"query": plan.name})


def test_what_is_wrong_before_the_first_step_stays_down_alone_and_is_closed(settings: Settings) -> None:
    class Wrong(Plan):
        def prepare(self) -> None:
            raise SetupError("no url")

    wrong, well = Wrong("deliver.x.wrong"), Plan("deliver.x.well", 2)
    with pytest.raises(SetupError, match="no url"):
        run(settings, wrong, well)
    assert (wrong.closed, well.seen) == (1, ["prepare", "step 2", "step 0"])


def test_a_foreign_fault_stops_the_loop_without_its_text(settings: Settings) -> None:
    with pytest.raises(Exception, match=r"^unexpected fault \(ValueError\)$"):
        run(settings, Plan("deliver.x.y", ValueError("ada@example.com")))


def test_sigterm_lets_the_step_finish_and_begins_no_other(settings: Settings) -> None:
    began, ended = threading.Event(), threading.Event()

    class Slow(Plan):
        def step(self) -> int:
            assert not ended.is_set(), "a second step was begun"
            began.set()
            threading.Event().wait(0.3)
            ended.set()
            return 1

    threading.Thread(target=lambda: began.wait(5) and os.kill(os.getpid(), signal.SIGTERM)).start()
    run(settings, Slow("deliver.x.y"), once=False)
    assert ended.is_set()


@pytest.mark.parametrize(
    ("step_s", "seen"),
    [
        (-3600.0, ["start", "busy", "stop", "start"]),
        (-1.0, ["start", "busy"]),
        (86_400.0, ["start", "busy"]),
    ],
)
def test_a_query_that_waits_is_started_again_when_the_clock_was_set_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, step_s: float, seen: list[str]
) -> None:
    """`Waiting` stands for a query on Spark: in a batch when the clock is set, then it waits."""
    offset, found = [0.0], []

    class Waiting:
        fault, active, looks = None, True, 0

        def __init__(self, *_: Any) -> None:
            found.append("start")

        @property
        def waits_by_wall_clock(self) -> bool:
            self.looks += 1
            return self.looks > 1

        def halt(self) -> bool:
            return True

        def stop(self) -> None:
            found.append("stop")

    def later() -> None:
        try:
            eventually(lambda: found, "it has started")
            found.append("busy")
            offset[0] = step_s
            eventually(lambda: found == seen, f"{seen}")
            time.sleep(0.2)  # for what must not come
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(runtime, "StartedQuery", Waiting)
    monkeypatch.setattr(runtime, "StepWatch", lambda: StepWatch(lambda: time.time() + offset[0]))
    threading.Thread(target=later).start()
    query = type("Refine", (), {"name": "refine.x"})()
    run(settings, query, once=False)
    assert found[:-1] == seen  # the last stop is that of the end


@pytest.mark.parametrize(("steps", "told"), [([5.0, 5.0], [0.0, 0.0]), ([-60.0, 0.0], [60.0, 0.0])])
def test_a_step_back_of_the_wall_clock_is_told_once(steps: list[float], told: list[float]) -> None:
    now = [0.0, 0.0]
    watch = StepWatch(lambda: now[0], lambda: now[1])
    found = []
    for step in steps:
        now = [now[0] + 1.0 + step, now[1] + 1.0]
        found.append(watch.back_s())
    assert found == told


def test_a_second_start_of_a_loop_is_refused(settings: Settings) -> None:
    with instance_lock(settings.lake_root, "deliver.x.y"), pytest.raises(LockedError, match="runs already"):
        run(settings, Plan("deliver.x.y"))


def test_workers_that_share_by_themselves_run_beside_each_other(settings: Settings) -> None:
    plan = Plan("import-files", 1)
    with instance_lock(settings.lake_root, "import-files"):
        Runtime(Context(cast(Any, None), settings, "run"), once=True, alone=False).run([plan])
    assert plan.seen == ["prepare", "step 1", "step 0"]
