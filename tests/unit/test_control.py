"""A domain that a person stops and starts: what the runtime does with its works, and what it says of them."""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from headwater.errors import SetupError, TransientError
from headwater.settings import Settings
from jobs import control as module
from jobs import runtime
from jobs.control import Control, Told
from jobs.pulse import Pulse
from jobs.queries import Context
from jobs.runtime import Runtime
from tests.integration.broker import eventually

WITHIN_S = 10.0


class Wished:
    """Stands for the tables: what was wished, what was told, a fault while it is away."""

    def __init__(self, desired: str = "running") -> None:
        self.desired = {"crm": desired}
        self.told: dict[str, Told] = {}
        self.fault: Exception | None = None
        self.reads = 0

    def read(self) -> dict[str, str]:
        self.reads += 1
        if self.fault:
            raise self.fault
        return dict(self.desired)

    def tell(self, works: Sequence[Told]) -> None:
        self.told |= {told.query: told for told in works}

    def close(self) -> None:
        pass

    def states(self) -> dict[str, str]:
        return {name: told.state for name, told in self.told.items()}


class Work:
    """A loop that counts its steps; a step lasts until `gate` is open."""

    every_s = 0.01

    def __init__(self, name: str, domain: str | None = None) -> None:
        self.name = name
        if domain:
            self.domain = domain
        self.starts = self.steps = self.closed = 0
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def prepare(self) -> None:
        self.starts += 1

    def step(self) -> int:
        self.gate.wait()
        if self.fault:
            raise self.fault
        self.steps += 1
        return 0

    def close(self) -> None:
        self.closed += 1

    def goes_on(self) -> bool:
        before = self.steps
        eventually(lambda: self.steps > before, f"{self.name} goes on", WITHIN_S)
        return True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_POLL_S", 0.01)
    monkeypatch.setattr(module, "READ_EVERY_S", 0.02)
    monkeypatch.setattr(module, "TELL_EVERY_S", 0.02)


def run(settings: Settings, wished: Wished, *works: Any, once: bool = False) -> None:
    context = Context(cast(Any, None), settings, "run")
    Runtime(context, once=once, control=Control(wished)).run(works)


def while_running(settings: Settings, wished: Wished, script: Callable[[], Any], *works: Any) -> None:
    """Run the works while the script goes through; then all is stopped by a signal."""
    faults: list[BaseException] = []

    def play() -> None:
        try:
            script()
        except BaseException as fault:  # it is raised by the test
            faults.append(fault)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=play)
    thread.start()
    run(settings, wished, *works)
    thread.join()
    for fault in faults:
        raise fault


def test_a_stopped_domain_begins_no_step_while_others_go_on_and_is_started_again(settings: Settings) -> None:
    wished, mine, other = Wished(), Work("refine.crm", "crm"), Work("refine.leads", "leads")

    def script() -> None:
        assert mine.goes_on()
        going = {"refine.crm": "running", "refine.leads": "running"}
        eventually(lambda: wished.states() == going, "told as running", WITHIN_S)
        wished.desired["crm"] = "stopped"
        halted = going | {"refine.crm": "stopped"}
        eventually(lambda: wished.states() == halted, "told as stopped", WITHIN_S)
        before = mine.steps
        assert other.goes_on() and (mine.steps, mine.closed) == (before, 1)
        wished.desired["crm"] = "running"
        assert mine.goes_on() and mine.starts == 2

    while_running(settings, wished, script, mine, other)
    assert (other.starts, {*wished.states().values()}) == (1, {"stopped"})


def test_a_step_under_way_ends_and_keeps_no_other_waiting(settings: Settings) -> None:
    wished, mine = Wished(), Work("refine.crm", "crm")
    second, other = Work("ingest.crm", "crm"), Work("refine.leads")
    mine.gate.clear()

    def script() -> None:
        assert second.goes_on() and other.goes_on()
        wished.desired["crm"] = "stopped"
        expected = {"refine.crm": "stopping", "ingest.crm": "stopped"}
        eventually(lambda: wished.states() == expected, "one is stopping", WITHIN_S)
        assert other.goes_on()
        wished.desired["crm"] = "running"
        assert second.goes_on()
        mine.gate.set()
        assert mine.goes_on() and mine.starts == 2

    while_running(settings, wished, script, mine, second, other)


def test_a_domain_that_was_stopped_before_stays_stopped_and_the_runtime_waits(settings: Settings) -> None:
    wished, mine = Wished("stopped"), Work("refine.crm", "crm")

    def script() -> None:
        eventually(lambda: wished.states() == {"refine.crm": "stopped"}, "told as stopped", WITHIN_S)
        assert mine.starts == 0
        wished.desired["crm"] = "running"
        assert mine.goes_on()

    while_running(settings, wished, script, mine)


def test_before_postgresql_has_answered_a_controlled_domain_waits_and_says_why_once(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    wished, mine, other = Wished(), Work("refine.crm", "crm"), Work("refine.leads")
    wished.fault = TransientError("away")

    def script() -> None:
        eventually(lambda: wished.reads > 5, "it asks again", WITHIN_S)
        assert other.goes_on() and mine.starts == 0
        wished.fault = None
        assert mine.goes_on()

    while_running(settings, wished, script, mine, other)
    said = capsys.readouterr()
    assert (said.out + said.err).count("control_unknown") == 1


@pytest.mark.parametrize("desired", ["running", "stopped"])
def test_when_postgresql_goes_away_the_last_word_holds(settings: Settings, desired: str) -> None:
    wished, mine = Wished(desired), Work("refine.crm", "crm")

    def script() -> None:
        eventually(lambda: wished.reads > 2, "it has asked", WITHIN_S)
        wished.fault = TransientError("away")
        asked, steps = wished.reads, mine.steps
        eventually(lambda: wished.reads > asked + 5, "it asks again", WITHIN_S)
        assert mine.goes_on() if desired == "running" else mine.steps == steps == 0

    while_running(settings, wished, script, mine)


def test_what_is_wrong_or_away_is_told(settings: Settings) -> None:
    wished, broken, away = Wished(), Work("ingest.crm", "crm"), Work("refine.crm", "crm")
    broken.fault, away.fault = SetupError("mend me"), TransientError("away")
    expected = {"ingest.crm": "failed", "refine.crm": "restarting"}
    with pytest.raises(SetupError, match="mend me"):
        while_running(
            settings,
            wished,
            lambda: eventually(lambda: wished.states() == expected, "told", WITHIN_S),
            broken,
            away,
        )


def test_once_leaves_out_a_stopped_domain_and_ends(settings: Settings) -> None:
    mine, other = Work("refine.crm", "crm"), Work("refine.leads")
    run(settings, Wished("stopped"), mine, other, once=True)
    assert (mine.starts, other.steps) == (0, 1)
    run(settings, Wished(), mine, once=True)
    assert mine.steps == 1


def test_once_does_not_run_a_domain_of_which_nobody_knows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_ONCE_PATIENCE_S", 0.0)
    wished, mine = Wished(), Work("refine.crm", "crm")
    for fault in (TransientError("away"), SetupError("no table")):
        wished.fault = fault
        with pytest.raises(type(fault)):
            run(settings, wished, mine, once=True)
    assert mine.starts == 0


def test_a_run_without_a_controlled_domain_never_asks(settings: Settings) -> None:
    wished = Wished("stopped")
    run(settings, wished, Work("refine.leads", "leads"), Work("import-files"), once=True)
    nobodys = Work("import-files")
    while_running(settings, wished, nobodys.goes_on, nobodys)
    assert (wished.reads, wished.told) == (0, {})


def test_a_domain_that_nobody_controls_is_told_of_and_goes_on_without_postgresql(settings: Settings) -> None:
    wished, mine = Wished("stopped"), Work("refine.leads", "leads")
    wished.fault = TransientError("away")

    def script() -> None:
        eventually(lambda: wished.reads > 2, "it has asked", WITHIN_S)
        assert mine.goes_on() and wished.told == {}
        wished.fault = None
        eventually(lambda: wished.states() == {"refine.leads": "running"}, "told as running", WITHIN_S)

    while_running(settings, wished, script, mine)
    assert wished.told["refine.leads"].domain == "leads"


def test_of_the_last_batches_nineteen_in_twenty_took_no_longer() -> None:
    pulse = Pulse()
    assert (pulse.batch_ms_p95, pulse.last_batch_at) == (None, None)
    for number in range(1, 101):
        pulse.beat(number / 1000)
    assert pulse.batch_ms_p95 == 95.0
    assert pulse.last_batch_at
