"""What has come into some topics since a moment, told by its headers: for who must know what it has sent."""

import logging
import time
from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from headwater.errors import DataLossError, SetupError, TransientError
from headwater.kafka import confluent_config
from headwater.offsets import span_of
from headwater.settings import Settings
from sources.kafka_record import GROUP

_WITHIN_S = 30.0
_AT_ONCE = 1000
_END, _GONE = "_PARTITION_EOF", "_AUTO_OFFSET_RESET"
_OWN = {
    "group.id": GROUP,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    # The last offset may be the mark of a transaction, which is given to nobody.
    "enable.partition.eof": True,
    # As ingest sees the topic.
    "isolation.level": "read_uncommitted",
}


class SentRecords:
    """Kafka, as whoever may send records into these topics reads it."""

    def __init__(self, settings: Settings) -> None:
        config = confluent_config(settings) | _OWN | {"client.id": "headwater-sent"}
        self._consumer = Consumer(config, logger=logging.getLogger("librdkafka"))

    def ends(self, topics: Iterable[str]) -> dict[str, int]:
        """The end of every partition, by topic-partition. Raises SetupError for a topic that is not there."""
        found: dict[str, int] = {}
        for topic in sorted(set(topics)):
            for partition in self._partitions(topic):
                found[f"{topic}-{partition}"] = self._end(topic, partition)
        return found

    def headers(self, starts: Mapping[str, int]) -> Iterator[dict[str, bytes | None]]:
        """The headers of all records from these places on, up to now. Raises TransientError, and
        DataLossError where Kafka has let go of some by now."""
        places = [span_of(place, first, first) for place, first in starts.items()]
        left = {(p.topic, p.partition): self._end(p.topic, p.partition) for p in places}
        left = {(p.topic, p.partition): left[p[:2]] for p in places if p.first < left[p[:2]]}
        self._consumer.assign([TopicPartition(*p[:3]) for p in places if p[:2] in left])
        try:
            yield from self._until(left)
        finally:
            self._consumer.unassign()

    def _until(self, left: dict[tuple[str, int], int]) -> Iterator[dict[str, bytes | None]]:
        patient_until = time.monotonic() + _WITHIN_S
        while left:
            for message in self._consumer.consume(_AT_ONCE, timeout=1.0):
                fault = message.error()
                if fault is not None and fault.name() == _GONE:
                    raise DataLossError(
                        f"{message.topic()} has lost records since: what this replay has sent cannot be told."
                        " Ask for those that are still new again: what silver has is a duplicate"
                    )
                if fault is not None and fault.name() != _END:
                    raise TransientError(f"Kafka does not give its records ({fault.name()})")
                patient_until = time.monotonic() + _WITHIN_S
                if fault is None:
                    yield dict(message.headers() or ())  # type: ignore[arg-type]  # a list, of bytes
                # Where records go on coming there is no end: it is enough to have passed what it was.
                place = (str(message.topic()), int(message.partition() or 0))
                if place in left and int(message.offset() or 0) + 1 >= left[place]:
                    del left[place]
            if time.monotonic() >= patient_until:
                raise TransientError("Kafka does not give its records in time")

    def close(self) -> None:
        """Give back the connection."""
        self._consumer.close()

    def _partitions(self, topic: str) -> list[int]:
        try:
            found = self._consumer.list_topics(topic, timeout=_WITHIN_S).topics[topic]
        except KafkaException as fault:
            raise TransientError(f"Kafka does not answer ({fault.args[0].name()})") from None
        if found.error is not None:
            raise SetupError(f"no such topic: {topic}; create it with `python -m jobs migrate`")
        return sorted(found.partitions)

    def _end(self, topic: str, partition: int) -> int:
        try:
            place = TopicPartition(topic, partition, OFFSET_END)
            return int(self._consumer.get_watermark_offsets(place, timeout=_WITHIN_S)[1])
        except KafkaException as fault:
            raise TransientError(f"Kafka does not answer ({fault.args[0].name()})") from None
