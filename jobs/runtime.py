"""How every job runs: locks, queries with their triggers, loops on their threads, stopping in between,
restarts.

SIGTERM and SIGINT ask for a stop: a batch or step that is under way is finished and committed, a new one is
not begun. A query or loop that dies of an outage is started again with growing pauses; one that dies of
something a person must mend stays down while the others go on, and decides the exit code.

Spark waits for a query's next batch by the wall clock: set back by an hour, it would wait for an hour. So a
query that waits then is started again.
"""

import signal
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from headwater.clock import StepWatch
from headwater.errors import HeadwaterError, TransientError
from headwater.locks import instance_lock
from headwater.log import logger
from jobs.faults import translate
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

    def went_well(self) -> None:
        """A batch or step succeeded: the next fault is a new one."""
        self.pause_s, self.first_fault_at = _FIRST_PAUSE_S, None


class Runtime:
    """Runs queries and loops until all there is was taken (`once`) or until a signal."""

    def __init__(self, context: Context, *, once: bool, alone: bool = True) -> None:
        """`alone`: no other instance of any of the works may run; else they must share by themselves."""
        self.context = context
        self.once = once
        self.alone = alone
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
                self._run([Running(work) for work in works])
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _places(self) -> int:
        """How many batches may run at a time: a cluster's executors come and go."""
        return max(self.context.spark.sparkContext.defaultParallelism, _FEWEST_AT_ONCE)

    def _run(self, running: list[Running]) -> None:
        watch = StepWatch()
        while not self.stopping.is_set() and not all(one.done for one in running):
            set_back = watch.back_s() >= _STEP_S
            for one in running:
                one.clock_was_set_back |= set_back
                self._tend(one)
            time.sleep(_POLL_S)
        for one in running:
            if one.started is not None:
                one.started.stop()
        for one in running:
            if one.stopped_for is not None:
                raise one.stopped_for

    def _tend(self, one: Running) -> None:
        if one.done:
            return
        if one.started is None:
            if time.monotonic() >= one.next_start:
                self._start(one)
            return
        if one.started.active:
            if one.clock_was_set_back and one.started.waits_by_wall_clock:
                self._start_again(one, one.started)
            return
        fault, one.started = one.started.fault, None
        if fault is None:
            one.done = True
        else:
            self._fell(one, fault)

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
        way = Way(self.context, self.once, self.stopping, self._turns, one.went_well)
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
            return
        _log.warning("query_restarts", query=one.work.name, why=str(fault), in_s=one.pause_s)
        one.next_start = now + one.pause_s
        one.pause_s = min(one.pause_s * 2, _LONGEST_PAUSE_S)
