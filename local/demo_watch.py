"""Watching from outside: the API, Kafka's ends, and a run's leads as they arrive in both destinations.

PostgreSQL is asked every 0.2 s, and a row's arrival is when an answer first had it: later than its commit by
up to that interval, never earlier.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from typing import Any

import psycopg
from confluent_kafka import Consumer, TopicPartition
from elasticsearch import ApiError, Elasticsearch, TransportError

from headwater.elasticsearch import client_options
from headwater.errors import TransientError
from headwater.identity import event_id
from headwater.kafka import confluent_config
from headwater.postgres import writer_conninfo
from headwater.settings import Settings

EVERY_S = 0.2
INDEX = "leads"
_IDS_AT_ONCE = 5000
# received_at is indexed; created_at is the time of the batch's transaction, and only one query writes.
_NEW_ROWS = (
    "SELECT idempotency_key, created_at FROM leads"
    " WHERE received_at >= %(since)s AND created_at > %(last)s AND starts_with(idempotency_key, %(run)s)"
)

_DELIVERIES = (
    "SELECT sent.connector, sent.event_id::text, sent.status, sent.attempts"
    " FROM webhook_deliveries AS sent JOIN leads AS kept ON kept.id = sent.lead_id"
    " WHERE kept.received_at >= %s AND starts_with(kept.idempotency_key, %s)"
)


@dataclass(frozen=True)
class Delivery:
    """A row of webhook_deliveries."""

    connector: str
    event_id: str
    status: str
    attempts: int


class Watch:
    """Notes when each lead of a run was first seen in PostgreSQL, from a thread of its own."""

    def __init__(self, settings: Settings, run: str, since: datetime) -> None:
        self.seen: dict[str, float] = {}
        self.fault: str | None = None
        self._settings = settings
        self._run = run
        self._since = since
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def has(self, keys: Iterable[str]) -> bool:
        """Whether every one of these keys has arrived. TransientError when PostgreSQL cannot be asked."""
        if self.fault:
            raise TransientError(f"PostgreSQL does not answer the demo's question ({self.fault})")
        return self.seen.keys() >= set(keys)

    def _follow(self) -> None:
        try:
            with _connect(self._settings) as connection:
                last = self._since
                while not self._stopping.wait(EVERY_S):
                    last = self._look(connection, last)
        except psycopg.Error as fault:
            self.fault = type(fault).__name__

    def _look(self, connection: psycopg.Connection, last: datetime) -> datetime:
        asked = {"since": self._since, "last": last, "run": self._run}
        rows = connection.execute(_NEW_ROWS, asked).fetchall()
        now = time.time()
        for key, created in rows:
            self.seen.setdefault(key, now)
            last = max(last, created)
        return last


def _connect(settings: Settings) -> psycopg.Connection:
    return psycopg.connect(writer_conninfo(settings.postgres, "headwater demo", ""), autocommit=True)


def one_row(settings: Settings, query: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a query finds that finds one row."""
    with _connect(settings) as connection:
        found = connection.execute(query.encode(), values).fetchone()
    return found or ()


def rows(settings: Settings, query: str) -> list[tuple[Any, ...]]:
    """All that a query finds."""
    with _connect(settings) as connection:
        return connection.execute(query.encode()).fetchall()


def rows_in_postgres(settings: Settings, run: str, since: datetime) -> int:
    """The run's rows, counted afresh."""
    query = "SELECT count(*) FROM leads WHERE received_at >= %s AND starts_with(idempotency_key, %s)"
    with _connect(settings) as connection:
        found = connection.execute(query, (since, run)).fetchone()
    return int(found[0]) if found else 0


def deliveries(settings: Settings, run: str, since: datetime) -> list[Delivery]:
    """The run's deliveries to connectors."""
    with _connect(settings) as connection:
        return [Delivery(*row) for row in connection.execute(_DELIVERIES, (since, run)).fetchall()]


def documents_in_elasticsearch(settings: Settings, tenants: dict[str, str]) -> int:
    """How many of these leads (key → tenant) the index has. Their ids are known: made from tenant and key."""
    ids = [event_id(tenant, key) for key, tenant in tenants.items()]
    server = settings.elasticsearch
    index = f"{server.prefix}{INDEX}"
    found = 0
    try:
        with Elasticsearch(**client_options(server), request_timeout=30) as client:
            client.indices.refresh(index=index)
            for start in range(0, len(ids), _IDS_AT_ONCE):
                query = {"terms": {"id": ids[start : start + _IDS_AT_ONCE]}}
                found += int(client.count(index=index, query=query)["count"])
    except (ApiError, TransportError) as fault:
        raise TransientError(
            f"Elasticsearch does not answer the demo's question ({type(fault).__name__})"
        ) from None
    return found


def api_url(settings: Settings) -> str:
    """Where the API listens on this machine."""
    return f"http://127.0.0.1:{settings.api.port}"


def live(settings: Settings) -> bool:
    """Whether the API answers /health/live."""
    connection = HTTPConnection("127.0.0.1", settings.api.port, timeout=2)
    try:
        connection.request("GET", "/health/live")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def end_offset(settings: Settings, topic: str) -> int:
    """How many records the topic has ever had: the sum of its partitions' ends."""
    consumer = Consumer({**confluent_config(settings), "group.id": "headwater-demo"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions]
    finally:
        consumer.close()
    return sum(ends)
