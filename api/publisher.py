"""Events → Kafka, answered only when Kafka has them: acks=all, idempotent producer, bounded memory.

The loop hands records to librdkafka, and asks for its delivery reports every POLL_S while any is due: a
thread that waited for them would contend with the loop for Python's lock at each of them. A record that is
not acknowledged within `kafka_timeout_s` is given up by librdkafka first: the client's 503 comes after the
last moment at which it could be sent. (One that the broker took but whose answer was lost may still be there;
the retry has the same event_id, and counts once.)
"""

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from api.metrics import QUEUE
from headwater.kafka import producer_config, remedy
from headwater.log import logger
from headwater.settings import Settings

MAX_PENDING_BYTES = 64 << 20
PROBES = 64  # requests that may wait at once while nothing is being acknowledged
POLL_S = 0.002
IDLE_POLL_S = 0.05  # while no report is due: for errors and log lines
SCAN_S = 1.0  # librdkafka looks for timed-out records once a second
GRACE_S = 3.0  # beyond kafka_timeout_s, before we stop believing in a delivery report
RETRY_AFTER_S = 5
_log = logger(__name__)


class Record(NamedTuple):
    """One Kafka record."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, str | bytes | None], ...] = ()


class UnavailableError(Exception):
    """Kafka did not take it: nothing was accepted."""


class _Waiting:
    """The records of one request, until the last of them is settled."""

    __slots__ = ("done", "error", "left", "size", "until")

    def __init__(self, left: int, size: int, done: "asyncio.Future[None] | None", until: float) -> None:
        self.left = left
        self.size = size
        self.done = done
        self.until = until
        self.error: str | None = None


class Publisher:
    """Start and stop it on the loop that publishes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._timeout_s = settings.api.kafka_timeout_s
        self._max_pending = settings.api.kafka_queue_messages
        self._config = _producer_config(settings)
        self._settled: deque[tuple[_Waiting, str | None]] = deque()  # also a thread appends, see _retire
        self._open: set[_Waiting] = set()
        self._pending = 0
        self._pending_bytes = 0
        self._failing = False
        self._fatal = False
        self._refusal: str | None = None
        self._next_scan = 0.0

    def start(self) -> None:
        """Make the producer and begin to poll it. Kafka may be away."""
        self._loop = asyncio.get_running_loop()
        self._producer = self._new_producer()
        self._timer = self._loop.call_later(IDLE_POLL_S, self._poll)

    async def stop(self) -> None:
        """Wait for what is under way, for as long as a request would."""
        end = time.monotonic() + self._timeout_s + SCAN_S
        while self._pending and time.monotonic() < end:
            await asyncio.sleep(POLL_S)
        self._timer.cancel()

    @property
    def pending(self) -> int:
        """Records handed over and not yet settled."""
        return self._pending

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when all are acknowledged; raise UnavailableError when one is not."""
        size = sum([len(record.value) for record in records])
        if not records:
            return
        if not self._has_room(len(records), size, self._max_pending):
            raise UnavailableError("the queue is full")
        if self._failing and self._pending >= PROBES:
            raise UnavailableError("Kafka does not acknowledge")
        done = self._loop.create_future()
        waiting = _Waiting(len(records), size, done, time.monotonic() + self._timeout_s + GRACE_S)
        self._hand_over(records, waiting)
        await done
        if waiting.error:
            raise UnavailableError(waiting.error)

    def offer(self, record: Record) -> bool:
        """Publish without waiting, if the queue is less than half full and Kafka is there."""
        if self._failing or not self._has_room(1, len(record.value), self._max_pending // 2):
            return False
        self._hand_over([record], _Waiting(1, len(record.value), None, math.inf))
        return True

    def reachable(self, topic: str, timeout_s: float) -> bool:
        """Whether a broker answers for the topic now. Blocks: call it in a thread."""
        try:
            found = self._producer.list_topics(topic, timeout=timeout_s).topics[topic]
        except KafkaException:
            return False
        return found.error is None

    def _has_room(self, count: int, size: int, most: int) -> bool:
        return self._pending + count <= most and self._pending_bytes + size <= MAX_PENDING_BYTES

    def _hand_over(self, records: Sequence[Record], waiting: _Waiting) -> None:
        if not self._pending:
            self._poll_in(POLL_S)
        self._pending += waiting.left
        self._pending_bytes += waiting.size
        self._open.add(waiting)

        def delivered(error: KafkaError | None, _message: object) -> None:
            self._settled.append((waiting, error.name() if error else None))

        for record in records:
            try:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    on_delivery=delivered,
                    headers=[*record.headers] or None,
                )
            except (BufferError, KafkaException):
                self._settled.append((waiting, "not_queued"))

    def _poll(self) -> None:
        """Settle what librdkafka reports by now, and come again."""
        try:
            self._producer.poll(0)
            while self._settled:
                self._settle(*self._settled.popleft())
            QUEUE.set(self._pending)
            self._look_for_faults(time.monotonic())
        finally:
            self._poll_in(POLL_S if self._pending else IDLE_POLL_S)

    def _poll_in(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._poll)

    def _settle(self, waiting: _Waiting, error: str | None) -> None:
        """Count, and wake the request when this was its last record."""
        waiting.left -= 1
        waiting.error = waiting.error or error
        self._pending -= 1
        if waiting.left:
            return
        self._pending_bytes -= waiting.size
        self._open.discard(waiting)
        self._note(waiting.error)
        if waiting.done and not waiting.done.done():
            waiting.done.set_result(None)

    def _look_for_faults(self, now: float) -> None:
        if self._fatal:
            self._replace_producer()
        if now >= self._next_scan:
            self._next_scan = now + SCAN_S
            self._give_up_overdue(now)

    def _give_up_overdue(self, now: float) -> None:
        """Tell requests whose reports should have come long ago; their records still count as pending."""
        for waiting in [one for one in self._open if one.until <= now]:
            self._open.discard(waiting)
            waiting.error = "no delivery report"
            if waiting.done and not waiting.done.done():
                waiting.done.set_result(None)

    def _note(self, error: str | None) -> None:
        if bool(error) != self._failing:
            self._failing = bool(error)
            self._refusal = self._refusal if error else None
            _log.warning("kafka_away" if error else "kafka_back", reason=error)

    def _replace_producer(self) -> None:
        """After a fatal error an idempotent producer refuses all work: settle its records, take another."""
        broken, self._producer = self._producer, self._new_producer()
        self._fatal = False
        _log.error("kafka_producer_replaced")
        threading.Thread(target=_retire, args=(broken,), name="kafka-retired", daemon=True).start()

    def _new_producer(self) -> Producer:
        return Producer(self._config | {"error_cb": self._on_error}, logger=logging.getLogger("librdkafka"))

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = True
        if (found := remedy(self._settings, error)) and found != self._refusal:
            self._refusal = found
            _log.error("kafka_refuses", remedy=found)


def _retire(broken: Producer) -> None:
    """Report its records as failed, and end it: both may take seconds."""
    broken.purge()
    broken.flush(SCAN_S)


def _producer_config(settings: Settings) -> dict[str, Any]:
    api = settings.api
    give_up_s = max(1.0, api.kafka_timeout_s - SCAN_S)
    return producer_config(settings, "headwater-api", give_up_s) | {
        "request.timeout.ms": round(give_up_s * 1000),
        # Ours is the tighter bound, checked before a request's first record is queued.
        "queue.buffering.max.messages": 2 * api.kafka_queue_messages,
        "queue.buffering.max.kbytes": 2 * MAX_PENDING_BYTES >> 10,
        "reconnect.backoff.max.ms": 1000,
    }
