"""What has come into a topic since a moment, on a real broker: all of it, and an end to it."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from headwater.errors import DataLossError
from headwater.kafka import confluent_config
from headwater.settings import Settings, load_settings
from sources import kafka_sent
from sources.kafka_sent import SentRecords
from tests.integration.broker import eventually, topic_of_its_own

SAID = {"replay_id": b"1"}


@pytest.fixture
def settings() -> Settings:
    return load_settings("local")


@pytest.fixture
def topic(settings: Settings) -> Iterator[str]:
    """A topic of the test's own, of three partitions."""
    with topic_of_its_own(settings.kafka.bootstrap, "sent") as name:
        yield name


@pytest.fixture
def reader(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SentRecords]:
    """It gives up sooner."""
    monkeypatch.setattr(kafka_sent, "_WITHIN_S", 5.0)
    made = SentRecords(settings)
    yield made
    made.close()


def send(settings: Settings, topic: str, partition: int, *, transaction: str | None = None) -> None:
    """A record; in a transaction that ends so, if it does."""
    own = {"transactional.id": topic} if transaction else {}
    producer = Producer(confluent_config(settings) | own)
    if transaction:
        producer.init_transactions(30)
        producer.begin_transaction()
    producer.produce(topic, b"{}", b"k", partition, headers=list(SAID.items()))
    assert producer.flush(30) == 0
    if transaction:
        {"commit": producer.commit_transaction, "abort": producer.abort_transaction}[transaction](30)


def test_what_came_before_is_left_out(settings: Settings, topic: str, reader: SentRecords) -> None:
    assert list(reader.headers(reader.ends([topic]))) == []
    send(settings, topic, 0)
    starts = reader.ends([topic])
    assert starts == {f"{topic}-0": 1, f"{topic}-1": 0, f"{topic}-2": 0}
    for partition in (0, 1, 1):
        send(settings, topic, partition)
    assert list(reader.headers(starts)) == [SAID] * 3


@pytest.mark.parametrize("ended", ["commit", "abort"])
def test_a_mark_of_a_transaction_at_a_partitions_end_is_not_waited_for(
    settings: Settings, topic: str, reader: SentRecords, ended: str
) -> None:
    send(settings, topic, 1)
    starts = reader.ends([topic])
    send(settings, topic, 0)
    send(settings, topic, 1, transaction=ended)
    # The mark has an offset, and is given to nobody. What was aborted is seen, as ingest sees it.
    ends = {f"{topic}-0": 1, f"{topic}-1": 3, f"{topic}-2": 0}
    eventually(lambda: reader.ends([topic]) == ends, "the mark is there")
    assert list(reader.headers(starts)) == [SAID] * 2


def test_where_only_a_mark_has_come_nothing_has(settings: Settings, topic: str, reader: SentRecords) -> None:
    send(settings, topic, 0, transaction="commit")
    eventually(lambda: reader.ends([topic])[f"{topic}-0"] == 2, "the mark is there")
    assert list(reader.headers({f"{topic}-0": 1, f"{topic}-1": 0})) == []


def test_what_kafka_has_let_go_of_is_told_as_lost_and_not_waited_for(
    settings: Settings, topic: str, reader: SentRecords
) -> None:
    starts = reader.ends([topic])
    for _ in range(3):
        send(settings, topic, 0)
    admin, gone = AdminClient(confluent_config(settings)), TopicPartition(topic, 0, 2)
    admin.delete_records([gone])[gone].result(30)
    with pytest.raises(DataLossError, match="cannot be told"):
        list(reader.headers(starts))
