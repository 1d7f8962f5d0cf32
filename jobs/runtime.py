"""How every job runs: locks, queries with their triggers, loops on their threads, stopping in between,
restarts.

SIGTERM and SIGINT ask for a stop: a batch or step that is under way is finished and committed, a new one is
not begun. A query or loop that dies of an outage is started again with growing pauses; one that dies of
something a person must mend stays down while the others go on, and decides the exit code.

A domain that somebody controls (jobs/control.py) is halted and started again while the others go on: the
batch or step under way is finished, and a runtime of which all is halted waits.

Spark waits for a query's next batch by the wall clock: set back by an hour, it would wait for an hour. So a
query that waits then is started again.
"""

import signal
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from headwater.clock import StepWatch
from headwater.errors import HeadwaterError, TransientError
from headwater.locks import instance_lock
from headwater.log import logger
from headwater.metrics import STOPPED
from jobs.control import CONTROLLED, Control, Told
from jobs.faults import translate
from jobs.pulse import Pulse
from jobs.queries import Context, Loop, Query
from jobs.started import Started, StartedLoop, StartedQuery, Way
from jobs.turns import Turns

_log = logger(__name__)
_POLL_S = 0.25
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
# Set back by less, a clock delays a batch by no more than this.
_STEP_S = 2.0
# Of one core, a second batch uses what the first leaves while it waits for disk or network.
_FEWEST_AT_ONCE = 2
# How long --once goes on trying while something outside is away.
_ONCE_PATIENCE_S = 120.0


@dataclass
class Running:
    """One query or loop and what has become of it."""

    work: Query | Loop
    started: Started | None = None
    stopped_for: HeadwaterError | None = None
    done: bool = False
    pause_s: float = _FIRST_PAUSE_S
    next_start: float = 0.0
    first_fault_at: float | None = None
    clock_was_set_back: bool = False
    halting: bool = False
    pulse: Pulse = field(default_factory=Pulse)

    @property
    def domain(self) -> str | None:
        """Whose work it is; None when it is nobody's alone."""
        return getattr(self.work, "domain", None)

    def went_well(self) -> None:
        """A batch or step succeeded: the next fault is a new one."""
        self.pause_s, self.first_fault_at = _FIRST_PAUSE_S, None


class Runtime:
    """Runs queries and loops until all there is was taken (`once`) or until a signal."""

    def __init__(
        self, context: Context, *, once: bool, alone: bool = True, control: Control | None = None
    ) -> None:
        """`alone`: no other instance of any of the works may run; else they must share by themselves.
        `control` says which works are wanted; without one all are."""
        self.context = context
        self.once = once
        self.alone = alone
        self.control = control
        self.stopping = threading.Event()
        self._turns = Turns(context.written, self._places)

    def run(self, works: Sequence[Query | Loop]) -> None:
        """Run them. Raises the first fault that a person must mend, or that outlasted our patience."""
        previous = {
            s: signal.signal(s, lambda *_: self.stopping.set()) for s in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            with ExitStack() as locks:
                for work in works if self.alone else ():
                    locks.enter_context(instance_lock(self.context.settings.lake_root, work.name))
                for work in works:
                    STOPPED.labels(work.name).set(0)
                self._follow([Running(work) for work in works])
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _places(self) -> int:
        """How many batches may run at a time: a cluster's executors come and go."""
        return max(self.context.spark.sparkContext.defaultParallelism, _FEWEST_AT_ONCE)

    def _follow(self, running: list[Running]) -> None:
        """Run them as far, and as long, as they are wanted, and tell of those of a domain."""
        controlled = [one for one in running if one.domain in CONTROLLED]
        told = [one for one in running if one.domain]
        if self.control is None or not (controlled if self.once else told):
            self._run(running)
        elif self.once:
            unwanted = self._unwanted_now(controlled)
            self._run([one for one in running if one.work.name not in unwanted])
        else:
            self.control.start(lambda: [self._told(one) for one in told])
            try:
                self._run(running)
            finally:
                self.control.stop()

    def _unwanted_now(self, controlled: list[Running]) -> set[str]:
        """The names of those that a person has stopped. Raises what PostgreSQL says instead of an answer, an
        outage when it has outlasted our patience."""
        if self.control is None:
            return set()
        patient_until = time.monotonic() + _ONCE_PATIENCE_S
        while True:
            try:
                self.control.look()
                break
            except TransientError:
                if time.monotonic() >= patient_until or self.stopping.wait(_FIRST_PAUSE_S):
                    raise
        unwanted = {one.work.name for one in controlled if not self._wants(one)}
        if unwanted:
            _log.warning("domain_is_stopped", skipped=sorted(unwanted), remedy="start it: see docs/crm.md")
        return unwanted

    def _wants(self, one: Running) -> bool:
        return self.control is None or self.control.wants(one.domain)

    def _told(self, one: Running) -> Told:
        state, pulse = self._state(one), one.pulse
        lag = pulse.lag if state == "running" else None
        return Told(one.work.name, one.domain or "", state, lag, pulse.last_batch_at, pulse.batch_ms_p95)

    def _state(self, one: Running) -> str:
        if one.stopped_for is not None:
            return "failed"
        if one.started is not None:
            return "stopping" if one.halting or self.stopping.is_set() else "running"
        if one.done or self.stopping.is_set() or not self._wants(one):
            return "stopped"
        return "restarting" if one.first_fault_at is not None else "starting"

    def _run(self, running: list[Running]) -> None:
        watch = StepWatch()
        while not self.stopping.is_set() and not all(one.done for one in running):
            set_back = watch.back_s() >= _STEP_S
            for one in running:
                one.clock_was_set_back |= set_back
                self._tend(one)
            time.sleep(_POLL_S)
        # All are asked before any is waited for.
        for one in running:
            if one.started is not None:
                one.started.halt()
        for one in running:
            if one.started is not None:
                one.started.stop()
                one.started = None
        for one in running:
            if one.stopped_for is not None:
                raise one.stopped_for

    def _tend(self, one: Running) -> None:
        if one.done:
            return
        if one.started is None:
            if self._wants(one) and time.monotonic() >= one.next_start:
                self._start(one)
            return
        if one.halting or not self._wants(one):
            self._halt(one, one.started)
            return
        if one.started.active:
            if one.clock_was_set_back and one.started.waits_by_wall_clock:
                self._start_again(one, one.started)
            return
        fault, told_to_stop, one.started = one.started.fault, one.started.told_to_stop, None
        if told_to_stop:
            return  # at the gate, by a word that was taken back since
        if fault is None:
            one.done = True
        else:
            self._fell(one, fault)

    def _halt(self, one: Running, started: Started) -> None:
        """Ask it to end, and look whether it has: once begun, it is brought to its end. A fault of its last
        batch is met again at the next start."""
        if not one.halting:
            _log.info("query_halts", query=one.work.name)
        one.halting = True
        try:
            if not started.halt():
                return
            _log.info("query_halted", query=one.work.name)
        except Exception as fault:  # it may not end in time; the others go on
            _log.error("stop_failed", query=one.work.name, exc_info=fault)
            self._fell(one, translate(fault) or HeadwaterError(type(fault).__name__))
        one.started, one.halting = None, False

    def _start_again(self, one: Running, started: Started) -> None:
        _log.warning("query_restarts", query=one.work.name, why="the clock was set back", in_s=0.0)
        one.started = None
        try:
            started.stop()
        except Exception as fault:  # it may not end in time; the others go on
            _log.error("stop_failed", query=one.work.name, exc_info=fault)
            self._fell(one, translate(fault) or HeadwaterError(type(fault).__name__))

    def _start(self, one: Running) -> None:
        one.clock_was_set_back = False
        way = Way(
            self.context,
            self.once,
            self.stopping,
            self._turns,
            one.went_well,
            lambda: not self.once and not self._wants(one),
            one.pulse,
        )
        try:
            work = one.work
            one.started = StartedLoop(work, way) if isinstance(work, Loop) else StartedQuery(work, way)
        except Exception as fault:  # every fault of a start is sorted into ours
            _log.error("start_failed", query=one.work.name, exc_info=fault)
            self._fell(one, translate(fault) or HeadwaterError(type(fault).__name__))

    def _fell(self, one: Running, fault: HeadwaterError) -> None:
        now = time.monotonic()
        one.first_fault_at = one.first_fault_at or now
        tired = self.once and now - one.first_fault_at > _ONCE_PATIENCE_S
        if not isinstance(fault, TransientError) or tired:
            _log.error("query_stopped", query=one.work.name, why=str(fault))
            one.stopped_for, one.done = fault, True
            STOPPED.labels(one.work.name).set(1)
            return
        _log.warning("query_restarts", query=one.work.name, why=str(fault), in_s=one.pause_s)
        one.next_start = now + one.pause_s
        one.pause_s = min(one.pause_s * 2, _LONGEST_PAUSE_S)
