"""Topics: what the contracts and the deliveries declare, and with which settings."""

import pytest
from kafka.admin import NewTopic

from schemas.contract import ROW_LIMIT_BYTES, contracts
from schemas.topics import DAY_MS, declared_topics

DECLARED = {topic.name: topic for topic in declared_topics(1)}


def test_every_contracts_topic_is_declared_with_its_partitions_and_days() -> None:
    for contract in contracts().values():
        topic = DECLARED[contract.topic]
        assert topic.num_partitions == contract.partitions
        assert topic.topic_configs["retention.ms"] == str(contract.retention_days * DAY_MS)


def test_the_outgoing_topics_of_leads_are_declared() -> None:
    assert {"lead.normalized", "lead.captured", "lead.dlq"} <= DECLARED.keys()


def test_the_dead_letters_of_uploads_have_a_topic_though_no_contract_is_theirs() -> None:
    assert "uploads.dlq" in DECLARED


def test_no_topic_is_declared_twice() -> None:
    assert len(declared_topics(1)) == len(DECLARED)


@pytest.mark.parametrize("topic", DECLARED.values(), ids=DECLARED)
def test_a_topic_takes_records_above_our_own_limit_so_that_they_become_dead_letters(topic: NewTopic) -> None:
    assert int(topic.topic_configs["max.message.bytes"]) > 20 * ROW_LIMIT_BYTES


@pytest.mark.parametrize("topic", DECLARED.values(), ids=DECLARED)
def test_a_topic_takes_records_of_a_sender_whose_clock_is_ahead(topic: NewTopic) -> None:
    assert topic.topic_configs["message.timestamp.type"] == "LogAppendTime"


@pytest.mark.parametrize(("replication", "in_sync"), [(1, "1"), (2, "1"), (3, "2")])
def test_all_but_one_replica_must_acknowledge(replication: int, in_sync: str) -> None:
    for topic in declared_topics(replication):
        assert topic.replication_factor == replication
        assert topic.topic_configs["min.insync.replicas"] == in_sync
