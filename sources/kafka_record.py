"""One record of Kafka by its place, for who wants that one again."""

import logging
import time
from functools import cached_property
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headwater.errors import SetupError, TransientError
from headwater.kafka import confluent_config
from headwater.settings import Settings

# Faults by librdkafka's names.
_GONE = frozenset(
    "_PARTITION_EOF OFFSET_OUT_OF_RANGE _AUTO_OFFSET_RESET"
    " UNKNOWN_TOPIC_OR_PART _UNKNOWN_TOPIC _UNKNOWN_PARTITION".split()
)
_REFUSED = frozenset({"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "_AUTHENTICATION"})
# One broker or all do not answer: the client goes on trying by itself.
_PASSES = frozenset({"_ALL_BROKERS_DOWN", "_TRANSPORT", "_RESOLVE"})
# Never joined and never committed to: librdkafka wants one.
GROUP = "headwater-records"
_OWN = {
    "group.id": GROUP,
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A place that is not there is an answer, not a reason to go on elsewhere.
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    # As ingest sees the topic.
    "isolation.level": "read_uncommitted",
    # One record is wanted: nothing is fetched ahead. A larger one comes all the same, as the first.
    "queued.min.messages": 1,
    "fetch.message.max.bytes": 65_536,
    # A full queue of one would keep the next fetch waiting for a second.
    "fetch.queue.backoff.ms": 5,
}


class RecordReader:
    """Reads single records. The connection is made at the first and kept."""

    def __init__(self, settings: Settings, client: str, within_s: float) -> None:
        """A broker that does not answer within `within_s` is away."""
        self._config: dict[str, Any] = confluent_config(settings) | _OWN | {"client.id": client}
        self._within_s = within_s

    def read(self, topic: str, partition: int, offset: int) -> Message | None:
        """The record, or None when Kafka has it no more. Raises TransientError, or SetupError when Kafka
        refuses us."""
        try:
            return self._read(TopicPartition(topic, partition, offset))
        except KafkaException as fault:
            self.close()
            _raise_unless_gone(fault.args[0])
            return None

    def _read(self, place: TopicPartition) -> Message | None:
        first, behind = self._consumer.get_watermark_offsets(place, timeout=self._within_s)
        if not first <= place.offset < behind:
            return None
        self._consumer.assign([place])
        try:
            return self._polled(place.offset)
        finally:
            self._consumer.unassign()

    def _polled(self, offset: int) -> Message | None:
        end = time.monotonic() + self._within_s
        while (left := end - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            if message is None:
                continue
            if (fault := message.error()) is None:
                # A later one: what was here is compacted away.
                return message if message.offset() == offset else None
            if fault.name() not in _PASSES:
                _raise_unless_gone(fault)
                return None
        self.close()
        raise TransientError("Kafka does not give a record in time")

    def close(self) -> None:
        """Give back the connection; `read` may follow."""
        if consumer := self.__dict__.pop("_consumer", None):
            consumer.close()

    @cached_property
    def _consumer(self) -> Consumer:
        return Consumer(self._config, logger=logging.getLogger("librdkafka"))


def _raise_unless_gone(fault: KafkaError) -> None:
    name = fault.name()
    if name in _REFUSED:
        raise SetupError(f"Kafka refuses to give a record ({name}): check kafka.username and its rights")
    if name not in _GONE:
        raise TransientError(f"Kafka does not give a record ({name})")
