"""Records → Kafka, a batch at a time, all of it acknowledged: for loops that keep a position of their own."""

import logging
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headwater.errors import TransientError
from headwater.kafka import producer_config
from headwater.settings import Settings


class Record(NamedTuple):
    """What is sent. Without a key Kafka chooses the partition; without a value it is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class WaitingProducer:
    """Sends a batch and waits for every acknowledgement (acks=all). The connection is made at the first."""

    def __init__(self, settings: Settings, client: str, within_s: float, max_bytes: int) -> None:
        """A broker that does not acknowledge within `within_s` is away; records have at most `max_bytes`."""
        self._config = producer_config(settings, client, within_s) | {"message.max.bytes": max_bytes}
        self._within_s = within_s

    def send(self, topic: str, records: Iterable[Record]) -> None:
        """These, in order. All, or TransientError: then no more of them comes later."""
        failed: list[str] = []

        def acknowledged(fault: KafkaError | None, _message: Message) -> None:
            if fault is not None:
                failed.append(fault.name())

        producer = self._producer
        try:
            for key, value, headers in records:
                producer.produce(topic, key=key, value=value, headers=list(headers), on_delivery=acknowledged)
            left = producer.flush(self._within_s)
        except (KafkaException, BufferError) as fault:
            self._give_up()
            raise TransientError(f"Kafka does not take records ({_code(fault)})") from None
        if failed or left:
            self._give_up()
            why = ", ".join(sorted(set(failed))) or "no answer"
            raise TransientError(f"Kafka did not acknowledge {max(left, len(failed))} records ({why})")

    def close(self) -> None:
        """Give back the connection; `send` may follow."""
        self.__dict__.pop("_producer", None)

    def _give_up(self) -> None:
        """Nothing of this batch may be sent later, behind its own repetition."""
        self._producer.purge()
        self._producer.flush(0)
        self.close()

    @cached_property
    def _producer(self) -> Producer:
        return Producer(self._config, logger=logging.getLogger("librdkafka"))


def _code(fault: Exception) -> str:
    found = fault.args[0] if fault.args else None
    return found.name() if isinstance(found, KafkaError) else type(fault).__name__
