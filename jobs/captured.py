"""deliver.leads.captured: public.lead_outbox → topic lead.captured, keyed as lead.ingest, in order per lead.

At least once: a row is marked as relayed after Kafka acknowledged it, so a crash in between sends it again.
Safe to run again because consumers can tell: `id` and `row_version` of the value name the version.
"""

from headwater.failpoints import fail_at
from headwater.identity import message_key
from headwater.kafka import check_topic
from headwater.metrics import EVENTS, PENDING
from headwater.producer import Record, WaitingProducer
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
        # A record's own limit in lead.ingest is 1 MiB; escapes may make its JSON several times longer.
        self._producer = WaitingProducer(
            context.settings, "headwater-captured", ACKNOWLEDGED_WITHIN_S, MAX_MESSAGE_BYTES
        )
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
        self._producer.close()

    def _send(self, rows: list[Announcement]) -> None:
        """All or TransientError: then none is marked, and all are sent again, in order."""
        named = (
            Record(message_key(row.tenant_id, row.idempotency_key), row.document.encode()) for row in rows
        )
        self._producer.send(self._topic, named)
