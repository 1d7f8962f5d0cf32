"""deliver.crm.enqueued on a real broker and queue: which record comes again, as what, and how often."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from confluent_kafka import OFFSET_END, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headwater.errors import SetupError, TransientError
from headwater.settings import ROOT, Settings
from jobs import enqueued as module
from jobs.enqueued import Enqueued
from local.postgres import dsn
from schemas.topics import MAX_MESSAGE_BYTES, create_topics
from sources.kafka_record import RecordReader
from tests.integration.api_server import free_port
from tests.integration.broker import PARTITIONS, topic_of_its_own
from tests.integration.outbox_harness import context, migrated_database, settings_of

KILLED = -9
VALUE = b"\x00\x00\x00\x00\x07 Avro \xff"
Place = tuple[int, int]


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        made = settings_of(name)
        create_topics(made)
        yield made


class Topic:
    """A topic of the test's own."""

    def __init__(self, name: str, bootstrap: str) -> None:
        self.name = name
        self._config = {"bootstrap.servers": bootstrap}
        self.admin = AdminClient(self._config)

    def send(self, key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]) -> Place:
        """Where it is."""
        placed: list[Place] = []
        producer = Producer(self._config | {"partitioner": "murmur2_random", "message.max.bytes": 32 << 20})
        producer.produce(
            self.name,
            key=key,
            value=value,
            headers=list(headers),
            on_delivery=lambda _, message: placed.append((message.partition(), message.offset())),
        )
        assert producer.flush(20) == 0
        return placed[0]

    def records(self) -> dict[Place, Message]:
        consumer = Consumer(self._config | {"group.id": uuid.uuid4().hex})
        found: dict[Place, Message] = {}
        for partition in range(PARTITIONS):
            first, behind = consumer.get_watermark_offsets(TopicPartition(self.name, partition), timeout=10)
            consumer.assign([TopicPartition(self.name, partition, first)])
            for message in consumer.consume(behind - first, timeout=20) if behind > first else []:
                found[partition, message.offset() or 0] = message
        consumer.close()
        return found

    def forget(self, partition: int) -> None:
        """As retention would."""
        spot = TopicPartition(self.name, partition, OFFSET_END)
        self.admin.delete_records([spot])[spot].result(30)


@pytest.fixture
def topic(settings: Settings) -> Iterator[Topic]:
    limit = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
    with topic_of_its_own(settings.kafka.bootstrap, "enqueued", limit) as name:
        yield Topic(name, settings.kafka.bootstrap)


class Queue:
    """analytics.crm_enqueued, as the API writes it and a person sees it."""

    def __init__(self, settings: Settings) -> None:
        database = settings.postgres.dsn.rsplit("/", 1)[1]
        self.connection = psycopg.connect(dsn("headwater_owner", "postgres-owner", database), autocommit=True)
        self.connection.execute("TRUNCATE analytics.crm_enqueued")

    def enter(self, topic: str, partition: int, offset: int, delay_ms: int = 0) -> uuid.UUID:
        job_id = uuid.uuid4()
        self.connection.execute(
            'INSERT INTO analytics.crm_enqueued (job_id, tenant_id, topic, partition, "offset", due_at)'
            " VALUES (%s, 'acme', %s, %s, %s, now() + %s * interval '1 millisecond')",
            (job_id, topic, partition, offset, delay_ms),
        )
        return job_id

    def ends(self) -> dict[uuid.UUID, tuple[str, str | None]]:
        found = self.connection.execute("SELECT job_id, status, error FROM analytics.crm_enqueued").fetchall()
        return {row[0]: row[1:] for row in found}


@pytest.fixture
def queue(settings: Settings) -> Iterator[Queue]:
    made = Queue(settings)
    yield made
    made.connection.close()


@pytest.fixture
def loop(settings: Settings) -> Iterator[Enqueued]:
    made = Enqueued(context(settings))
    made.prepare()
    yield made
    made.close()


def test_the_record_comes_again_as_it_was_and_says_where_it_was(
    topic: Topic, queue: Queue, loop: Enqueued
) -> None:
    given: list[tuple[str, bytes]] = [("trace", b"1"), ("trace", b"2"), ("empty", b"")]
    topic.send(b"acme|e-0", b"another")
    partition, offset = topic.send(b"acme|e-1", VALUE, *given)
    before = topic.records()
    job = queue.enter(topic.name, partition, offset)
    assert (loop.step(), loop.step()) == (1, 0)
    (place,) = topic.records().keys() - before.keys()
    found = topic.records()[place]
    assert (place[0], found.key(), found.value()) == (partition, b"acme|e-1", VALUE)
    said = f"{topic.name}-{partition}-{offset}".encode()
    assert found.headers() == [*given, ("replay_of", said)]
    assert queue.ends() == {job: ("done", None)}


def test_a_record_that_was_sent_again_says_where_it_was_last(
    topic: Topic, queue: Queue, loop: Enqueued
) -> None:
    partition, offset = topic.send(b"k", None, ("replay_of", b"older-0-1"), ("kept", b"x"))
    queue.enter(topic.name, partition, offset)
    loop.step()
    found = topic.records()[partition, offset + 1]
    said = f"{topic.name}-{partition}-{offset}".encode()
    assert (found.value(), found.headers()) == (None, [("kept", b"x"), ("replay_of", said)])


def test_a_record_without_a_key_comes_again_somewhere(topic: Topic, queue: Queue, loop: Enqueued) -> None:
    partition, offset = topic.send(None, b"no key")
    queue.enter(topic.name, partition, offset)
    loop.step()
    assert [message.value() for message in topic.records().values()] == [b"no key"] * 2


def test_a_delayed_job_waits_and_earlier_ones_go_first(topic: Topic, queue: Queue, loop: Enqueued) -> None:
    partition, first = topic.send(b"k", b"1")
    _, second = topic.send(b"k", b"2")
    queue.enter(topic.name, partition, first, -1)
    queue.enter(topic.name, partition, second, -1_000)
    later = queue.enter(topic.name, partition, first, 60_000)
    assert loop.step() == 2
    values = [message.value() for _, message in sorted(topic.records().items())]
    assert values == [b"1", b"2", b"2", b"1"]
    assert queue.ends()[later] == ("waiting", None)


def test_what_kafka_has_no_more_fails_as_gone_and_the_others_are_sent(
    topic: Topic, queue: Queue, loop: Enqueued
) -> None:
    partition, forgotten = topic.send(b"k", b"old")
    topic.forget(partition)
    _, there = topic.send(b"k", b"new")
    spots = [(partition, forgotten), (partition, 2**63 - 1), (PARTITIONS + 5, 0)]
    gone = [queue.enter(topic.name, *spot) for spot in spots]
    gone.append(queue.enter("test.no.such.topic", 0, 0))
    sent = queue.enter(topic.name, partition, there)
    assert loop.step() == 5
    assert queue.ends() == {**dict.fromkeys(gone, ("failed", "gone")), sent: ("done", None)}


def test_a_record_that_has_no_room_for_the_header_fails(
    topic: Topic, queue: Queue, loop: Enqueued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_MESSAGE_BYTES", 8192)
    (partition, large), (_, small) = topic.send(b"k", b"x" * 4096), topic.send(b"k", b"x" * 4000)
    jobs = [queue.enter(topic.name, partition, offset) for offset in (large, small)]
    loop.step()
    assert [queue.ends()[job] for job in jobs] == [("failed", "too_large"), ("done", None)]


def test_a_large_record_is_read_whole(topic: Topic, settings: Settings) -> None:
    value = os.urandom(3 << 20)
    partition, offset = topic.send(b"k", value)
    reader = RecordReader(settings, "test", 10.0)
    found = reader.read(topic.name, partition, offset)
    assert found is not None and found.value() == value
    reader.close()


def test_while_kafka_is_away_jobs_wait(settings: Settings, topic: Topic, queue: Queue) -> None:
    job = queue.enter(topic.name, 0, 0)
    nowhere = settings.kafka.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"})
    loop = Enqueued(context(settings.model_copy(update={"kafka": nowhere})))
    loop._reader = RecordReader(settings.model_copy(update={"kafka": nowhere}), "test", 1.0)  # noqa: SLF001
    with pytest.raises(TransientError):
        loop.step()
    loop.close()
    assert queue.ends() == {job: ("waiting", None)}


CRASH = """
from headwater.failpoints import arm
from headwater.settings import Settings
from jobs.enqueued import Enqueued
from tests.integration.outbox_harness import context, settings_of
import sys
arm("local")
loop = Enqueued(context(settings_of(sys.argv[1])))
loop.prepare()
loop.step()
"""


def test_killed_before_the_mark_it_is_sent_again(
    settings: Settings, topic: Topic, queue: Queue, loop: Enqueued
) -> None:
    partition, offset = topic.send(b"k", b"v")
    job = queue.enter(topic.name, partition, offset)
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    point = os.environ | {"HEADWATER_FAILPOINT": "deliver.crm.enqueued:after_write"}
    crashed = subprocess.run([sys.executable, "-c", CRASH, database], cwd=ROOT, env=point, timeout=60)
    assert (crashed.returncode, queue.ends()) == (KILLED, {job: ("waiting", None)})
    assert loop.step() == 1
    assert (len(topic.records()), queue.ends()) == (3, {job: ("done", None)})


def test_old_jobs_are_forgotten_when_they_are_over(topic: Topic, queue: Queue, loop: Enqueued) -> None:
    old, new, waiting = (queue.enter(topic.name, 0, 0, 60_000) for _ in range(3))
    end = (
        "UPDATE analytics.crm_enqueued SET status = 'failed', done_at = now() - %s::interval"
        " WHERE job_id = %s"
    )
    for job, age in ((old, "31 days"), (new, "29 days")):
        queue.connection.execute(end.encode(), (age, job))
    loop.step()
    assert queue.ends().keys() == {new, waiting}


def test_it_has_no_start_to_begin_from(settings: Settings) -> None:
    made = Enqueued(replace(context(settings), from_start=True))
    try:
        with pytest.raises(SetupError, match="leave --from-start out"):
            made.prepare()
    finally:
        made.close()
