"""Work under way: a query on Spark's threads, or a loop on a thread of its own, as the runtime sees both."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from headwater.clock import utc_now
from headwater.errors import HeadwaterError
from headwater.log import logger
from headwater.metrics import BATCH_SECONDS, LAST_BATCH
from headwater.tables import checkpoint_path
from jobs.faults import translate
from jobs.progress import report
from jobs.pulse import Pulse
from jobs.queries import Context, Loop, Query
from jobs.turns import Turns

_log = logger(__name__)
_POLL_S = 0.05


@dataclass(frozen=True)
class Way:
    """How to run: until nothing is left (`once`) or, taking `turns`, until all is `stopping` or this work is
    `unwanted`; `went_well` hears of each success, `pulse` of what was done."""

    context: Context
    once: bool
    stopping: threading.Event
    turns: Turns
    went_well: Callable[[], None]
    unwanted: Callable[[], bool]
    pulse: Pulse


class Started(Protocol):
    """One start of a query or loop, from its first batch or step to its end."""

    @property
    def active(self) -> bool:
        """Whether it still runs."""
        ...

    @property
    def fault(self) -> HeadwaterError | None:
        """Why it ended; None when nothing was left to do, or it was told to stop."""
        ...

    @property
    def told_to_stop(self) -> bool:
        """Whether its end is one that was asked for: what it then says of a fault is of no account."""
        ...

    @property
    def waits_by_wall_clock(self) -> bool:
        """Whether it waits now, by a clock that may be set back, so that `stop` would end at once."""
        ...

    def halt(self) -> bool:
        """Begin no other batch or step; whether it has ended. Waits for nothing: ask again until it has."""
        ...

    def stop(self) -> None:
        """Let the batch or step that is under way finish, begin no other; returns when it has ended."""


class StartedQuery:
    """A streaming query, prepared and started. A batch that comes when all is stopping is not begun."""

    def __init__(self, query: Query, way: Way) -> None:
        self._query = query
        self._way = way
        self._fault: HeadwaterError | None = None
        self._stopping = False
        self._waiting_at_gate = False
        self._written: int | None = None
        self._reported: int | None = None
        self._waited_s = 0.0
        self._stream = self._start()

    @property
    def active(self) -> bool:
        active, batch = self._stream.isActive, self._written
        if batch is not None and batch != self._reported:
            if report(self._query.name, self._stream, batch, self._waited_s, self._way.pulse):
                self._reported = batch
        return active

    @property
    def fault(self) -> HeadwaterError | None:
        return self._fault or translate(self._stream.exception())

    @property
    def told_to_stop(self) -> bool:
        return self._stopping or self._waiting_at_gate

    @property
    def waits_by_wall_clock(self) -> bool:
        status = self._stream.status
        begun = not status["message"].startswith("Initializing")
        return not self._way.once and begun and not status["isTriggerActive"]

    def halt(self) -> bool:
        self._stopping = True
        if not self._stream.isActive:
            return True
        if self._stream.status["isTriggerActive"] and not self._waiting_at_gate:
            return False
        self._stream.stop()
        return True

    def stop(self) -> None:
        while not self.halt():
            time.sleep(_POLL_S)

    def _start(self) -> StreamingQuery:
        query, context = self._query, self._way.context
        query.prepare()
        context.spark.sparkContext.setLocalProperty("spark.scheduler.pool", query.name)
        writer = (
            query.source()
            .writeStream.queryName(query.name)
            .option("checkpointLocation", checkpoint_path(context.settings, query.name))
            .foreachBatch(self._write)
        )
        trigger = {"availableNow": True} if self._way.once else {"processingTime": f"{query.every_s} seconds"}
        return writer.trigger(**trigger).start()

    def _write(self, batch: DataFrame, number: int) -> None:
        turns = self._way.turns
        waited_s = turns.begin(self._query, self._is_stopping)
        try:
            self._write_now(batch, number)
        finally:
            turns.end(self._query)
        self._way.went_well()
        if not self._way.once:
            waited_s += turns.wait(self._query, self._is_stopping)
        self._waited_s, self._written = waited_s, number

    def _write_now(self, batch: DataFrame, number: int) -> None:
        if self._is_stopping():
            self._waiting_at_gate = True
            raise HeadwaterError("stopping: the batch was not begun")
        began = time.monotonic()
        try:
            self._query.write(batch, number)
        except Exception as fault:
            self._fault = translate(fault) or HeadwaterError(type(fault).__name__)
            _log.error("batch_failed", query=self._query.name, batch_id=number, exc_info=fault)
            raise
        seconds = time.monotonic() - began
        BATCH_SECONDS.labels(self._query.name).observe(seconds)
        self._way.pulse.beat(seconds)

    def _is_stopping(self) -> bool:
        return self._stopping or self._way.stopping.is_set() or self._way.unwanted()


class StartedLoop:
    """A loop on its own thread, prepared there, so that one that has to wait keeps nobody waiting.

    Step after step while there is work, else a look every `every_s`.
    """

    def __init__(self, loop: Loop, way: Way) -> None:
        self._loop = loop
        self._way = way
        self.fault: HeadwaterError | None = None
        self._halted = threading.Event()
        self._thread = threading.Thread(target=self._run, name=loop.name, daemon=True)
        self._thread.start()

    @property
    def active(self) -> bool:
        return self._thread.is_alive()

    @property
    def told_to_stop(self) -> bool:
        return self._halted.is_set()

    @property
    def waits_by_wall_clock(self) -> bool:
        return False

    def halt(self) -> bool:
        self._halted.set()
        return not self._thread.is_alive()

    def stop(self) -> None:
        self.halt()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.prepare()
            self._steps()
        except Exception as fault:  # every fault of a step is sorted into ours
            self.fault = translate(fault) or HeadwaterError(type(fault).__name__)
            _log.error("step_failed", query=self._loop.name, exc_info=fault)
        finally:
            self._loop.close()

    def _steps(self) -> None:
        while not self._is_stopping():
            done = self._step()
            self._way.went_well()
            if not done and self._way.once:
                return
            if not done:
                self._halted.wait(self._loop.every_s)

    def _is_stopping(self) -> bool:
        if self._way.unwanted():
            self._halted.set()
        return self._halted.is_set() or self._way.stopping.is_set()

    def _step(self) -> int:
        began = time.monotonic()
        done = self._loop.step()
        if done:
            seconds = time.monotonic() - began
            BATCH_SECONDS.labels(self._loop.name).observe(seconds)
            self._way.pulse.beat(seconds)
            LAST_BATCH.labels(self._loop.name).set(utc_now().timestamp())
        return done
