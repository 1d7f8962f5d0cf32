"""deliver.crm.enqueued: analytics.crm_enqueued → the record at that place of Kafka, once more in its topic.

Key, value and headers are those of the record; the header `replay_of` says where that was. At least once: a
job is marked after Kafka acknowledged the record, so a crash in between sends it again. Safe to run again
because refine knows the event by its key: each repetition is logged as skipped.
"""

from confluent_kafka import Message

from headwater.errors import SetupError
from headwater.failpoints import fail_at
from headwater.kafka import check_topic, replaying
from headwater.log import logger
from headwater.metrics import EVENTS, PENDING
from headwater.producer import Record, WaitingProducer
from jobs.queries import Context
from schemas.contract import domain_contracts
from schemas.letters import REPLAY_OF
from schemas.topics import MAX_MESSAGE_BYTES
from sources.crm_enqueued import EnqueuedJobs, Wanted
from sources.kafka_record import RecordReader

GONE, TOO_LARGE = "gone", "too_large"
BATCH = 20  # of a step, so that one that is to stop ends soon
WITHIN_S = 10.0
_ACKNOWLEDGED_WITHIN_S = 30.0
# What a record grows by: the header, and the batch that it travels in.
_ROOM_BYTES = 4096
_log = logger(__name__)


class Enqueued:
    """Sends records of the CRM again, one after the other."""

    domain = "crm"

    def __init__(self, context: Context, name: str = "deliver.crm.enqueued") -> None:
        self.name = name
        self.every_s = context.settings.streams.triggers.deliver_s
        self._context = context
        self._jobs = EnqueuedJobs(context.settings, name)
        self._kafka = replaying(context.settings)
        self._reader = RecordReader(self._kafka, "headwater-enqueued", WITHIN_S)
        self._producer = WaitingProducer(
            self._kafka, "headwater-enqueued", _ACKNOWLEDGED_WITHIN_S, MAX_MESSAGE_BYTES
        )

    def prepare(self) -> None:
        """Look for table and topics. What was sent is marked so for good: there is no start to begin from."""
        if self._context.from_start:
            raise SetupError(f"{self.name} sends each job once: leave --from-start out, or enqueue again")
        self._jobs.check()
        for contract in domain_contracts(self.domain).values():
            check_topic(self._kafka, contract.topic)

    def step(self) -> int:
        """Send what is due; how many jobs that was."""
        due = self._jobs.due(BATCH)
        for job in due:
            self._send(job)
        self._jobs.sweep()
        PENDING.labels(self.name).set(self._jobs.waiting())
        return len(due)

    def close(self) -> None:
        """Give back the connections."""
        self._jobs.close()
        self._reader.close()
        self._producer.close()

    def _send(self, job: Wanted) -> None:
        found = self._reader.read(job.topic, job.partition, job.offset)
        # A message without a value is false.
        record = again(found) if found is not None else None
        if record is None or _bytes(record) > MAX_MESSAGE_BYTES - _ROOM_BYTES:
            self._give_up(job, TOO_LARGE if record else GONE)
            return
        self._producer.send(job.topic, [record])
        fail_at(self.name, "after_write")
        self._jobs.done(job.job_id)
        self._context.totals.add(rows_in=1, rows_out=1)
        EVENTS.labels(self.name, job.topic, "delivered").inc()

    def _give_up(self, job: Wanted, error: str) -> None:
        _log.warning("not_sent_again", query=self.name, job_id=str(job.job_id), why=error)
        self._jobs.failed(job.job_id, error)
        self._context.totals.add(rows_in=1, dead=1)
        EVENTS.labels(self.name, job.topic, error).inc()


def again(message: Message) -> Record:
    """The same record, which says where it was. One that was sent again before says where it was last."""
    place = f"{message.topic()}-{message.partition()}-{message.offset()}"
    given: list[tuple[str, bytes | None]] = list(message.headers() or ())  # type: ignore[arg-type]  # bytes
    kept = [header for header in given if header[0] != REPLAY_OF]
    return Record(message.key(), message.value(), [*kept, (REPLAY_OF, place.encode())])


def _bytes(record: Record) -> int:
    headers = sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
