"""Sending sample traffic at a steady rate, and counting what was sent and what came back.

Open loop: an event is due at its time whether or not earlier answers have come. A request that got no answer,
429 or 503 is sent again with the same key, so it may be in Kafka twice; `retries` says how many could be.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import Producer

from headwater.errors import TransientError
from headwater.kafka import confluent_config
from headwater.settings import Settings
from local.traffic import Event, Kind

WORKERS = 24
_TRIES = 5
_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 3.0
_TIMEOUT_S = 15.0
_FLUSH_S = 60.0
_BUSY = (429, 503)
# Above our own limit of 1 MiB, so that an oversized event gets as far as refine.
_LARGEST_MESSAGE = 4 << 20


@dataclass
class Tally:
    """What was sent by kind, what it must be refused for, and each answer: the truth to check against."""

    sent: Counter[Kind] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    due: dict[str, float] = field(default_factory=dict)
    confirmed: dict[str, float] = field(default_factory=dict)
    tenants: dict[str, str] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        return sum(self.sent.values())

    @property
    def per_second(self) -> float:
        return self.total / (self.ended - self.began) if self.ended > self.began else 0.0

    def send(self, event: Event, due: float) -> None:
        """Note an event that is about to be sent, and when it was due."""
        with self.lock:
            self.sent[event.kind] += 1
            if event.code:
                self.codes[event.code] += 1
            if event.kind is Kind.VALID:
                self.due[event.key], self.tenants[event.key] = due, event.tenant

    def answer(self, event: Event, given: str, wanted: str) -> None:
        """Note an answer; the first acceptance of a key is when its event counts as confirmed."""
        now = time.time()
        with self.lock:
            self.answers[given] += 1
            if given != wanted:
                self.unexpected[f"{event.flaw or event.kind}: {given}, not {wanted}"] += 1
            elif given == "accepted" and event.key not in self.confirmed:
                self.confirmed[event.key] = now


def paced(events: Iterable[Event], rate: float) -> Iterator[tuple[float, Event]]:
    """(when it was due, event), not before it is due; rate 0: at once."""
    began = time.time()
    for number, event in enumerate(events):
        due = began + number / rate if rate else time.time()
        if (early := due - time.time()) > 0:
            time.sleep(early)
        yield due, event


def send_http(
    url: str,
    api_keys: dict[str, str],
    events: Iterable[Event],
    rate: float,
    tally: Tally,
    tries: int = _TRIES,
) -> None:
    """POST each event to <url>/ingest with its tenant's API key; back when every answer is there."""
    due: SimpleQueue[Event | None] = SimpleQueue()
    workers = [
        threading.Thread(target=_work, args=(url, api_keys, due, tally, tries), daemon=True)
        for _ in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    tally.began = tally.began or time.time()
    for when, event in paced(events, rate):
        tally.send(event, when)
        due.put(event)
    for _ in workers:
        due.put(None)
    for worker in workers:
        worker.join()
    tally.ended = time.time()


def _work(
    url: str, api_keys: dict[str, str], due: SimpleQueue[Event | None], tally: Tally, tries: int
) -> None:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT_S)
    while (event := due.get()) is not None:
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": event.key,
            "X-API-Key": api_keys[event.tenant],
        }
        tally.answer(event, _post(connection, event.body, headers, tally, tries), _WANTED[event.kind])
    connection.close()


_WANTED = {
    Kind.VALID: "accepted",
    Kind.DUPLICATE: "accepted",
    Kind.BROKEN: "refused",
    Kind.NO_CONSENT: "discarded",
}


def _post(connection: HTTPConnection, body: bytes, headers: dict[str, str], tally: Tally, tries: int) -> str:
    """accepted, discarded, refused (any other 4xx), or failed when no answer came in several tries."""
    for attempt in range(tries):
        if attempt:
            time.sleep(min(_PAUSE_S * attempt, _LONGEST_PAUSE_S))
            with tally.lock:
                tally.retries += 1
        try:
            connection.request("POST", "/ingest", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException):
            connection.close()
            continue
        if answer.status == 202:
            return str(json.loads(text)["status"])
        if answer.status not in _BUSY:
            return "refused" if 400 <= answer.status < 500 else "failed"
    return "failed"


def send_kafka(settings: Settings, events: Iterable[Event], rate: float, tally: Tally) -> None:
    """Produce each event to its topic with acks=all; back when each one is confirmed or refused."""
    config: dict[str, Any] = {
        **confluent_config(settings),
        "enable.idempotence": True,
        "linger.ms": 10,
        "log_level": 2,  # that Kafka is away is seen by what it confirms
        "message.max.bytes": _LARGEST_MESSAGE,
    }
    producer = Producer(config)
    tally.began = tally.began or time.time()
    for due, event in paced(events, rate):
        tally.send(event, due)
        _produce(producer, event, tally)
    if producer.flush(_FLUSH_S):
        raise TransientError(f"Kafka did not confirm every event within {_FLUSH_S:.0f} s")
    tally.ended = time.time()


def _produce(producer: Producer, event: Event, tally: Tally) -> None:
    def confirm(fault: object, _message: object) -> None:
        tally.answer(event, "failed" if fault else "accepted", "accepted")

    key = f"{event.tenant}|{event.key}".encode()
    while True:
        try:
            producer.produce(event.topic, event.body, key, on_delivery=confirm)
            producer.poll(0)
            return
        except BufferError:  # the queue is full: let deliveries be confirmed
            producer.poll(0.1)
