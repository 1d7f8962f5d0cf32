"""Events → Kafka, answered only when Kafka has them: acks=all, idempotent producer, bounded memory.

The loop hands records to librdkafka; one thread polls for delivery reports and hands them back in bulk. A
record that is not acknowledged within `kafka_timeout_s` is given up by librdkafka first: the client's 503
comes after the last moment at which it could be sent. (One that the broker took but whose answer was lost may
still be there; the retry has the same event_id, and counts once.)
"""

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from api.metrics import QUEUE
from headwater.kafka import producer_config
from headwater.log import logger
from headwater.settings import Settings

MAX_PENDING_BYTES = 64 << 20
PROBES = 64  # requests that may wait at once while nothing is being acknowledged
POLL_S = 0.05
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

    __slots__ = ("done", "error", "left", "size")

    def __init__(self, left: int, size: int, done: "asyncio.Future[None] | None") -> None:
        self.left = left
        self.size = size
        self.done = done
        self.error: str | None = None


class Publisher:
    """Start and stop it on the loop that publishes."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.api.kafka_timeout_s
        self._max_pending = settings.api.kafka_queue_messages
        self._config = _producer_config(settings)
        self._settled: list[tuple[_Waiting, str | None]] = []
        self._pending = 0
        self._pending_bytes = 0
        self._failing = False
        self._fatal = threading.Event()
        self._closing = threading.Event()

    def start(self) -> None:
        """Make the producer and its polling thread. Kafka may be away."""
        self._loop = asyncio.get_running_loop()
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._serve, name="kafka-delivery", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Wait for what is under way, for as long as a request would."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join, self._timeout_s + GRACE_S)

    @property
    def pending(self) -> int:
        """Records handed over and not yet settled."""
        return self._pending

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when all are acknowledged; raise UnavailableError when one is not."""
        size = sum(len(record.value) for record in records)
        if not records:
            return
        if not self._has_room(len(records), size, self._max_pending):
            raise UnavailableError("the queue is full")
        if self._failing and self._pending >= PROBES:
            raise UnavailableError("Kafka does not acknowledge")
        waiting = _Waiting(len(records), size, self._loop.create_future())
        self._hand_over(records, waiting)
        try:
            async with asyncio.timeout(self._timeout_s + GRACE_S):
                await waiting.done  # type: ignore[misc]  # a future was given above
        except TimeoutError:
            raise UnavailableError("no delivery report") from None
        if waiting.error:
            raise UnavailableError(waiting.error)

    def offer(self, record: Record) -> bool:
        """Publish without waiting, if the queue is less than half full and Kafka is there."""
        if self._failing or not self._has_room(1, len(record.value), self._max_pending // 2):
            return False
        self._hand_over([record], _Waiting(1, len(record.value), None))
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
        self._pending += waiting.left
        QUEUE.set(self._pending)
        self._pending_bytes += waiting.size

        def delivered(error: KafkaError | None, _message: object) -> None:
            self._settled.append((waiting, error.name() if error else None))

        for record in records:
            try:
                told = list(record.headers)
                self._producer.produce(
                    record.topic, record.value, record.key, on_delivery=delivered, headers=told
                )
            except (BufferError, KafkaException):
                refused: list[tuple[_Waiting, str | None]] = [(waiting, "not_queued")]
                self._loop.call_soon(self._settle, refused)

    def _settle(self, settled: list[tuple[_Waiting, str | None]]) -> None:
        """On the loop: count, and wake the requests whose last record this was."""
        for waiting, error in settled:
            waiting.left -= 1
            waiting.error = waiting.error or error
            self._pending -= 1
            if waiting.left:
                continue
            self._pending_bytes -= waiting.size
            self._note(waiting.error)
            if waiting.done and not waiting.done.done():
                waiting.done.set_result(None)
        QUEUE.set(self._pending)

    def _note(self, error: str | None) -> None:
        if bool(error) != self._failing:
            self._failing = bool(error)
            _log.warning("kafka_away" if error else "kafka_back", reason=error)

    def _serve(self) -> None:
        """In the thread: poll until closed and empty, or until closing takes too long."""
        end = None
        while end is None or (time.monotonic() < end and (len(self._producer) or self._settled)):
            self._producer.poll(POLL_S)
            settled, self._settled = self._settled, []
            if settled:
                self._loop.call_soon_threadsafe(self._settle, settled)
            if self._fatal.is_set():
                self._replace_producer()
            if end is None and self._closing.is_set():
                end = time.monotonic() + self._timeout_s + SCAN_S

    def _replace_producer(self) -> None:
        """After a fatal error an idempotent producer refuses all work: settle its records, take another."""
        broken, self._producer = self._producer, self._new_producer()
        self._fatal.clear()
        _log.error("kafka_producer_replaced")
        broken.purge()
        broken.flush(SCAN_S)

    def _new_producer(self) -> Producer:
        return Producer(self._config | {"error_cb": self._on_error}, logger=logging.getLogger("librdkafka"))

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal.set()


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
