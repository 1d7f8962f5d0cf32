"""How every streaming job runs: locks, queries with their triggers, stopping between batches, restarts,
progress.

SIGTERM and SIGINT ask for a stop: a batch that is under way is finished and committed, a new one is not
begun. A query that dies of an outage is started again with growing pauses; one that dies of something a
person must mend stays down while the others go on, and decides the exit code.
"""

import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from headwater.errors import HeadwaterError, TransientError
from headwater.locks import instance_lock
from headwater.log import logger
from headwater.metrics import BATCH_SECONDS
from headwater.tables import checkpoint_path
from jobs.faults import translate
from jobs.progress import report
from jobs.queries import Context, Query

_log = logger(__name__)
_POLL_S = 0.25
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
# How long --once goes on trying while something outside is away.
_ONCE_PATIENCE_S = 120.0


@dataclass
class Running:
    """One query and what has become of it."""

    query: Query
    stream: StreamingQuery | None = None
    fault: HeadwaterError | None = None
    stopped_for: HeadwaterError | None = None
    done: bool = False
    waiting_at_gate: bool = False
    pause_s: float = _FIRST_PAUSE_S
    next_start: float = 0.0
    first_fault_at: float | None = None
    last_batch: int = -1
    progress: dict[str, Any] = field(default_factory=dict)


class Runtime:
    """Runs queries until all there is was taken (`once`) or until a signal."""

    def __init__(self, context: Context, *, once: bool) -> None:
        self.context = context
        self.once = once
        self.stopping = threading.Event()

    def run(self, queries: list[Query]) -> None:
        """Run them. Raises the first fault that a person must mend, or that outlasted our patience."""
        previous = {
            s: signal.signal(s, lambda *_: self.stopping.set()) for s in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            with ExitStack() as locks:
                for query in queries:
                    locks.enter_context(instance_lock(self.context.settings.lake_root, query.name))
                self._run([Running(query) for query in queries])
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run(self, running: list[Running]) -> None:
        while not self.stopping.is_set() and not all(one.done for one in running):
            for one in running:
                self._tend(one)
            time.sleep(_POLL_S)
        self._stop_between_batches(running)
        for one in running:
            if one.stopped_for is not None:
                raise one.stopped_for

    def _tend(self, one: Running) -> None:
        if one.done:
            return
        if one.stream is None:
            if time.monotonic() >= one.next_start:
                self._start(one)
            return
        report(one.query.name, one.stream, one.progress)
        if one.stream.isActive:
            return
        report(one.query.name, one.stream, one.progress)
        fault = one.fault or translate(one.stream.exception())
        one.stream, one.fault = None, None
        if fault is None:
            one.done = True
        else:
            self._fell(one, fault)

    def _start(self, one: Running) -> None:
        try:
            one.query.prepare()
            one.stream = self._start_stream(one)
        except Exception as fault:  # every fault of a start is sorted into ours
            _log.error("start_failed", query=one.query.name, exc_info=fault)
            self._fell(one, translate(fault) or HeadwaterError(type(fault).__name__))

    def _start_stream(self, one: Running) -> StreamingQuery:
        query, spark = one.query, self.context.spark
        spark.sparkContext.setLocalProperty("spark.scheduler.pool", query.name)
        writer = (
            query.source()
            .writeStream.queryName(query.name)
            .option("checkpointLocation", checkpoint_path(self.context.settings, query.name))
            .foreachBatch(lambda batch, number: self._write(one, batch, number))
        )
        trigger = {"availableNow": True} if self.once else {"processingTime": f"{query.every_s} seconds"}
        return writer.trigger(**trigger).start()

    def _write(self, one: Running, batch: DataFrame, number: int) -> None:
        if self.stopping.is_set():
            one.waiting_at_gate = True
            raise HeadwaterError("stopping: the batch was not begun")
        began = time.monotonic()
        try:
            one.query.write(batch, number)
        except Exception as fault:
            one.fault = translate(fault) or HeadwaterError(type(fault).__name__)
            _log.error("batch_failed", query=one.query.name, batch_id=number, exc_info=fault)
            raise
        one.pause_s, one.first_fault_at, one.last_batch = _FIRST_PAUSE_S, None, number
        BATCH_SECONDS.labels(one.query.name).observe(time.monotonic() - began)

    def _fell(self, one: Running, fault: HeadwaterError) -> None:
        now = time.monotonic()
        one.first_fault_at = one.first_fault_at or now
        tired = self.once and now - one.first_fault_at > _ONCE_PATIENCE_S
        if not isinstance(fault, TransientError) or tired:
            _log.error("query_stopped", query=one.query.name, why=str(fault))
            one.stopped_for, one.done = fault, True
            return
        _log.warning("query_restarts", query=one.query.name, why=str(fault), in_s=one.pause_s)
        one.next_start = now + one.pause_s
        one.pause_s = min(one.pause_s * 2, _LONGEST_PAUSE_S)

    def _stop_between_batches(self, running: list[Running]) -> None:
        for one in running:
            while one.stream is not None and one.stream.isActive and self._in_batch(one):
                time.sleep(_POLL_S / 5)
            if one.stream is not None and one.stream.isActive:
                one.stream.stop()

    def _in_batch(self, one: Running) -> bool:
        return not one.waiting_at_gate and bool(one.stream and one.stream.status["isTriggerActive"])
