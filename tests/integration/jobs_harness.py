"""What the tests of the jobs share: a broker, a lake with destinations of its own, jobs as processes.

Tables are read from the Delta log with pyarrow, not with the code under test.
"""

import json
import os
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Producer
from elasticsearch import Elasticsearch
from psycopg import sql

from headwater.settings import load_settings
from jobs.audit import OUTCOMES
from jobs.queries import Totals
from local.postgres import dsn
from schemas.migrate import upgrade
from schemas.topics import MAX_MESSAGE_BYTES
from sinks.postgres import LEAD_COLUMNS
from tests.integration.api_server import free_port
from tests.integration.broker import TOPIC, Broker
from tests.integration.job_process import Ended as Ended
from tests.integration.job_process import Job as Job
from tests.integration.lake import Row, live_files, rows_of

SHARED = ("source_topic", "source_partition", "source_offset")
Place = tuple[str, int, int]
REFUSED_TOPIC = "lead.refused"


@dataclass(frozen=True)
class Sent:
    """A record to send, and what must become of it."""

    value: bytes | None
    outcome: str = "silver"
    tenant: str | None = "acme"
    key: str = ""
    reason: str | None = None
    topic: str = TOPIC
    headers: tuple[tuple[str, bytes], ...] = ()
    unindexed: bool = False  # Elasticsearch refuses it: a dead letter beside silver and PostgreSQL


def lead(tenant: str, key: str, **changes: Any) -> Row:
    """A complete lead; `changes` with a double underscore reach into payload and context."""
    person = f"{key}.person"
    event: Row = {
        "tenant_id": tenant,
        "idempotency_key": key,
        "received_at": "2026-03-01T12:00:00.123Z",
        "source": "web",
        "payload": {
            "first_name": "Zoë",
            "last_name": "O'Neil\t\\N",
            "email": f"{person}@example.com",
            "phone": "+14155550132",
            "message": f"hello from {key}",
            "consent": True,
        },
        "context": {"ip_address": "2001:db8::1", "utm": {"campaign": "spring"}},
        "metadata": {"n": [1, "two"]},
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        inner = event
        for step in path:
            inner = inner[step]
        inner[last] = value
    return event


def good(tenant: str, key: str, outcome: str = "silver", **changes: Any) -> Sent:
    return Sent(json.dumps(lead(tenant, key, **changes)).encode(), outcome, tenant, key)


def refused(tenant: str, key: str, **changes: Any) -> Sent:
    """A lead of someone who did not agree."""
    return good(tenant, key, "no_consent", payload__consent=False, **changes)


def dead(tenant: str | None, key: str, reason: str, **changes: Any) -> Sent:
    """A broken lead, and the code of its first reason."""
    value = json.dumps(lead(tenant or "acme", key, **changes)).encode()
    return Sent(value, "dead", tenant, key, reason)


def garbled(value: bytes | None, reason: str) -> Sent:
    """Bytes that cannot be read as a document: nobody knows whose."""
    return Sent(value, "dead", None, uuid.uuid4().hex, reason)


def refused_by_api(tenant: str, value: bytes, reason: str, field: str = "") -> Sent:
    """A body that the API has refused, as it keeps it."""
    told = (("tenant_id", tenant.encode()), ("reasons", json.dumps([[reason, field]]).encode()))
    return Sent(value, "dead", tenant, uuid.uuid4().hex, reason, REFUSED_TOPIC, told)


def slice_of(number: int, count: int = 10) -> list[Sent]:
    """New leads, one from every slice so far again, and a broken one."""
    fresh = [good("acme", f"s{number}.{n}") for n in range(count)]
    again = [good("acme", f"s{earlier}.3", "duplicate") for earlier in range(number + 1)]
    return [*fresh, *again, dead("globex", f"b{number}", "rule:pattern", payload__email="nobody")]


# A world → what `jobs audit` counts; (world, job, domain, options of its Launch) → what the run did.
Prove = Callable[["World"], dict[str, int]]
Here = Callable[..., Totals]


@dataclass
class World:
    """A lake, a database and an index of a test's own, and what it has sent to Kafka."""

    folder: Path
    broker: Broker
    name: str = field(default_factory=lambda: f"headwater_test_{uuid.uuid4().hex[:8]}")
    sent: dict[Place, Sent] = field(default_factory=dict)
    runs: int = 0
    command: list[str] = field(default_factory=lambda: [sys.executable, "-m", "jobs"])

    def __post_init__(self) -> None:
        base = load_settings("local")
        self.lake, self.prefix = self.folder / "lake", f"{self.name}-"
        (self.folder / "logs").mkdir(parents=True)
        self.dsn, owner, api = (
            address.rsplit("/", 1)[0] + f"/{self.name}"
            for address in (base.postgres.dsn, base.postgres.owner_dsn, base.postgres.api_dsn)
        )
        self.metrics_port = free_port()
        changes = {
            "lake": str(self.lake),
            "kafka": base.kafka.model_copy(update={"bootstrap": self.broker.bootstrap}),
            "postgres": base.postgres.model_copy(update={"dsn": self.dsn, "owner_dsn": owner}),
            "elasticsearch": base.elasticsearch.model_copy(update={"prefix": self.prefix}),
        }
        self.settings = base.model_copy(update=changes)
        self.env = {
            "HEADWATER_ENV": "local",
            "HEADWATER_LAKE": str(self.lake),
            "HEADWATER_KAFKA__BOOTSTRAP": self.broker.bootstrap,
            "HEADWATER_POSTGRES__DSN": self.dsn,
            "HEADWATER_POSTGRES__OWNER_DSN": owner,
            "HEADWATER_POSTGRES__API_DSN": api,
            "HEADWATER_ELASTICSEARCH__PREFIX": self.prefix,
            "HEADWATER_METRICS__PORT": str(self.metrics_port),
            "HEADWATER_SPARK__DRIVER_MEMORY": "1g",
            "HEADWATER_SPARK__CONF": json.dumps({"spark.ui.enabled": "false"}),
            # A JVM that lives for seconds has no use for its best compiler.
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
        }

    # Making and unmaking

    def open(self, *, topics: bool = True) -> None:
        if topics:
            self.broker.remake_topics(self.settings)
        made = sql.SQL("CREATE DATABASE {} OWNER headwater_owner").format(sql.Identifier(self.name))
        _as_superuser(made)
        upgrade(self.settings)

    def close(self) -> None:
        _as_superuser(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)))
        with self.elasticsearch() as client:
            for index in client.indices.get(index=f"{self.prefix}*"):
                client.indices.delete(index=index)

    def elasticsearch(self) -> Elasticsearch:
        return Elasticsearch(self.settings.elasticsearch.url, request_timeout=60)

    # Sending and running

    def send(self, records: list[Sent]) -> list[Place]:
        """Produce them with acks=all; their places, as acknowledged, in order."""
        settings = {"bootstrap.servers": self.broker.bootstrap, "message.max.bytes": MAX_MESSAGE_BYTES}
        producer = Producer({**settings, "linger.ms": 5})
        placed: dict[int, Place] = {}
        for number, record in enumerate(records):

            def acknowledged(error: Any, message: Any, number: int = number) -> None:
                assert error is None, error
                placed[number] = (message.topic(), message.partition(), message.offset())

            name = f"{record.tenant}|{record.key}".encode()
            producer.produce(
                record.topic,
                value=record.value,
                key=name,
                headers=list(record.headers),
                on_delivery=acknowledged,
            )
            producer.poll(0)
        assert producer.flush(60) == 0
        self.sent |= {placed[number]: record for number, record in enumerate(records)}
        return [placed[number] for number in range(len(records))]

    def start(self, *words: str, **env: str) -> Job:
        """Start a job; `env` adds to its environment."""
        self.runs += 1
        log = self.folder / "logs" / f"{self.runs:02d}-{words[0]}.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADWATER_", "SPARK_", "PYSPARK_"))}
        ports = {k: v for k, v in os.environ.items() if k.startswith("HEADWATER_PORT_")}
        return Job([*self.command, *words], kept | ports | self.env | env, log)

    def run(self, *words: str, **env: str) -> Ended:
        return self.start(*words, **env).wait()

    def forget(self, *queries: str) -> None:
        """Delete these queries' checkpoints."""
        for query in queries:
            shutil.rmtree(self.lake / "_checkpoints" / query)

    def done(self, *words: str, **env: str) -> Row:
        """Run a job that must end well; its status."""
        ended = self.run(*words, **env)
        assert ended.code == 0, ended.why
        return ended.status

    # What there is

    def table(self, name: str, columns: list[str] | None = None) -> list[Row]:
        """The rows of a Delta table, read without Delta."""
        folder = self.lake / name.replace(".", "/")
        return [row for part in live_files(folder) for row in rows_of(folder, part, columns)]

    def places(self, name: str) -> list[Place]:
        """(topic, partition, offset) of every row, sorted."""
        names = ("topic", "partition", "offset") if name.startswith("bronze") else SHARED
        return sorted(tuple(row[c] for c in names) for row in self.table(name, list(names)))

    def silver(self) -> dict[tuple[str, str], Row]:
        """silver.leads by (tenant, key), as the destinations would say it; no key twice."""
        rows = [_plain({c: row[c] for c in LEAD_COLUMNS}) for row in self.table("silver.leads")]
        return _keyed(rows)

    def postgres(self) -> dict[tuple[str, str], Row]:
        columns = sql.SQL(", ").join(map(sql.Identifier, LEAD_COLUMNS))
        with psycopg.connect(dsn("headwater_owner", "postgres-owner", self.name)) as connection:
            connection.execute("SET timezone = 'UTC'")
            rows = connection.execute(sql.SQL("SELECT {} FROM leads").format(columns)).fetchall()
        return _keyed([_plain(dict(zip(LEAD_COLUMNS, row, strict=True))) for row in rows])

    def documents(self) -> dict[str, Row]:
        """The index by id; the id is made from the key."""
        alias = f"{self.prefix}leads"
        with self.elasticsearch() as client:
            client.indices.refresh(index=alias)
            found = client.search(index=alias, size=10_000)["hits"]["hits"]
        rows = {hit["_source"]["id"]: _plain(hit["_source"]) for hit in found}
        assert len(rows) == len(found)
        return rows

    def ledger(self, query: str) -> dict[str | None, Counter[str]]:
        """Sums of the ledger by tenant."""
        sums: dict[str | None, Counter[str]] = {}
        for row in self.table("ops.ledger"):
            if row["query"] == query:
                counts = {c: row[c] or 0 for c in ("in_rows", *OUTCOMES)}
                sums.setdefault(row["tenant_id"], Counter()).update(counts)
        return sums

    def expected_ledger(self) -> dict[str | None, Counter[str]]:
        """The same, by what the sender knows."""
        sums: dict[str | None, Counter[str]] = {}
        for record in self.sent.values():
            sums.setdefault(record.tenant, Counter()).update({"in_rows": 1, record.outcome: 1})
        return sums


def check(world: World) -> None:
    """Bronze has what was sent, once; each record has its outcome; destinations equal silver by key."""
    check_tables(world)
    assert _nonzero(world.ledger("refine.leads")) == _nonzero(world.expected_ledger())


def check_tables(world: World) -> None:
    """The same without the ledger's word of each outcome."""
    outcomes = Counter(record.outcome for record in world.sent.values())
    assert world.places("bronze.leads") == sorted(world.sent)
    ingested = world.ledger("ingest.leads").get(None, Counter())
    assert ingested["in_rows"] == len(world.sent)
    silver = world.silver()
    assert silver.keys() == {(r.tenant, r.key) for r in world.sent.values() if r.outcome == "silver"}
    assert len(world.places("silver.leads")) == outcomes["silver"]
    dead_places = [place for place, sent in world.sent.items() if sent.outcome == "dead" or sent.unindexed]
    assert world.places("ops.dead_letters") == sorted(dead_places)
    check_destinations(world)


def check_destinations(world: World) -> None:
    """PostgreSQL and Elasticsearch hold silver's keys with silver's values."""
    silver = world.silver()
    assert world.postgres() == silver
    left_out = {(sent.tenant, sent.key) for sent in world.sent.values() if sent.unindexed}
    by_id = {row["id"]: row for key, row in silver.items() if key not in left_out}
    documents = world.documents()
    assert documents.keys() == by_id.keys()
    for key, document in documents.items():
        assert document == {name: by_id[key][name] for name in document}


def _nonzero(sums: dict[str | None, Counter[str]]) -> dict[str | None, dict[str, int]]:
    kept = {tenant: {k: v for k, v in counts.items() if v} for tenant, counts in sums.items()}
    return {tenant: counts for tenant, counts in kept.items() if counts}


def _keyed(rows: list[Row]) -> dict[tuple[str, str], Row]:
    keyed = {(row["tenant_id"], row["idempotency_key"]): row for row in rows}
    assert len(keyed) == len(rows), "a key is there twice"
    return keyed


def _plain(row: Row) -> Row:
    """One way of writing for values that the stores write differently."""
    return {name: _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "metadata":
        return value if isinstance(value, dict) else json.loads(value)
    if name == "received_at":
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    return value if isinstance(value, bool | int) else str(value)


def _as_superuser(statement: sql.Composed) -> None:
    with psycopg.connect(dsn("postgres", "postgres-superuser", "postgres"), autocommit=True) as server:
        server.execute(statement)
