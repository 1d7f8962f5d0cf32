"""deliver.leads.captured: public.lead_outbox → topic lead.captured, keyed as lead.ingest, in order per lead.

At least once: a row is marked as relayed after Kafka acknowledged it, so a crash in between sends it again.
Safe to run again because consumers can tell: `id` and `row_version` of the value name the version.
"""

import logging
from functools import cached_property

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from headwater.errors import TransientError
from headwater.failpoints import fail_at
from headwater.identity import message_key
from headwater.kafka import check_topic, producer_config
from headwater.metrics import EVENTS, PENDING
from jobs.queries import Context
from schemas.topics import MAX_MESSAGE_BYTES
from sinks.outbox_reader import Announcement, OutboxReader

TOPIC = "lead.captured"
STREAM = "lead.ingest"
BATCH = 500
# A broker that is away for longer gives the step up; the runtime pauses and starts anew.
ACKNOWLEDGED_WITHIN_S = 30.0


class Captured:
    """Announces each version of a lead that PostgreSQL took; its value is the lead's row as it is now."""

    def __init__(self, context: Context, name: str = "deliver.leads.captured", topic: str = TOPIC) -> None:
        self.name = name
        self.every_s = context.settings.streams.triggers.deliver_s
        self._context = context
        self._topic = topic
        self._outbox = OutboxReader(context.settings, name)
        self._from_start_due = context.from_start

    def prepare(self) -> None:
        """Look for table and topic; with --from-start have all of the outbox relayed again, once."""
        self._outbox.check()
        if self._from_start_due:
            self._outbox.forget_relayed()
            self._from_start_due = False
        check_topic(self._context.settings, self._topic)

    def step(self) -> int:
        """Relay the oldest rows; how many."""
        due = self._outbox.due(BATCH)
        if due:
            self._send(due)
            fail_at(self.name, "after_write")
            self._outbox.mark([row.seq for row in due])
        gone = self._outbox.drop_gone()
        self._context.totals.add(rows_in=len(due) + gone, rows_out=len(due), erased=gone)
        EVENTS.labels(self.name, STREAM, "delivered").inc(len(due))
        EVENTS.labels(self.name, STREAM, "gone").inc(gone)
        PENDING.labels(self.name).set(self._outbox.pending())
        return len(due)

    def close(self) -> None:
        """Give back the connection and the producer."""
        self._outbox.close()
        self.__dict__.pop("_producer", None)

    def _send(self, rows: list[Announcement]) -> None:
        """All or TransientError: then none is marked, and all are sent again, in order."""
        failed: list[str] = []

        def acknowledged(fault: KafkaError | None, _message: Message) -> None:
            if fault is not None:
                failed.append(fault.name())

        producer = self._producer
        try:
            for row in rows:
                key = message_key(row.tenant_id, row.idempotency_key)
                producer.produce(self._topic, key=key, value=row.document.encode(), on_delivery=acknowledged)
            left = producer.flush(ACKNOWLEDGED_WITHIN_S)
        except (KafkaException, BufferError) as fault:
            self._give_up()
            raise TransientError(f"Kafka does not take records ({_code(fault)})") from None
        if failed or left:
            self._give_up()
            why = ", ".join(sorted(set(failed))) or "no answer"
            raise TransientError(f"Kafka did not acknowledge {max(left, len(failed))} records ({why})")

    def _give_up(self) -> None:
        """Nothing of this batch may be sent later, behind its own repetition."""
        self._producer.purge()
        self._producer.flush(0)
        self.__dict__.pop("_producer")

    @cached_property
    def _producer(self) -> Producer:
        config = producer_config(self._context.settings, "headwater-captured", ACKNOWLEDGED_WITHIN_S)
        # A record's own limit in lead.ingest is 1 MiB; escapes may make its JSON several times longer.
        config["message.max.bytes"] = MAX_MESSAGE_BYTES
        return Producer(config, logger=logging.getLogger("librdkafka"))


def _code(fault: Exception) -> str:
    found = fault.args[0] if fault.args else None
    return found.name() if isinstance(found, KafkaError) else type(fault).__name__
