"""deliver.leads.webhook-<name>: public.lead_outbox → public.webhook_deliveries → the connector's URL.

At least once, with the same Idempotency-Key on every attempt. Safe to run again: an event is entered once, a
claim that was not ended comes due again, and a dead letter is looked for before it is written.
"""

import asyncio
import ssl
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from urllib.parse import SplitResult

import httpcore

from headwater.errors import SetupError
from headwater.failpoints import fail_at
from headwater.log import logger
from headwater.metrics import BREAKER, DEAD, EVENTS, PENDING
from headwater.settings import Connector
from headwater.tables import ensure_table
from jobs.queries import Context
from jobs.webhook_letters import append_letters
from schemas.tables import DEAD_LETTERS
from sinks.webhook.addresses import Allowed, RefusedAddressError
from sinks.webhook.deliveries import Claimed, Deliveries
from sinks.webhook.only import check_only
from sinks.webhook.payload import body, check_mapping, headers
from sinks.webhook.schedule import Breaker, judge, wait_before_next
from sinks.webhook.transport import Answer, CheckedBackend, Sender, checked_url

STREAM = "lead.ingest"
ENQUEUED_AT_ONCE = 5000
# So many rounds of requests make a step: a stop waits for one step.
ROUNDS = 5
LETTERS_AT_ONCE = 200
# Beyond a request's own time: for marking what became of it.
LEASE_SLACK_S = 60.0
COUNTED_EVERY_S = 15.0
_log = logger(__name__)


class Webhook:
    """Posts each captured event to one connector."""

    def __init__(self, context: Context, connector: str) -> None:
        self.name = f"deliver.leads.webhook-{connector}"
        self.every_s = context.settings.streams.triggers.deliver_s
        self._context = context
        self._connector = connector
        self._settings = context.settings.connectors[connector]
        self._tls = ssl.create_default_context()
        self.deliveries = Deliveries(context.settings, connector, self.name)
        self.breaker = Breaker()
        self._from_start_due = context.from_start
        self._counted_at = -COUNTED_EVERY_S

    def prepare(self) -> None:
        """Enter the connector; refuse settings and an address that it may not have.

        A name that is not known may become known: that is the first request's matter.
        """
        _check(self._connector, self._settings)
        ensure_table(self._context.spark, self._context.settings, DEAD_LETTERS)
        self.deliveries.enable(from_start=self._from_start_due)
        self._from_start_due = False
        try:
            asyncio.run(self.backend.addresses(self._url.hostname or "", self._url.port or 443))
        except RefusedAddressError as fault:
            raise SetupError(f"connectors.{self._connector}: {fault}") from None
        except httpcore.ConnectError:
            _log.warning("name_not_resolved", query=self.name)

    def step(self) -> int:
        """Take announcements, send what is due, write dead letters; how many rows any of it touched."""
        taken = self.deliveries.enqueue(self._settings.tenants, ENQUEUED_AT_ONCE)
        claimed = self._claim()
        sent = asyncio.run(self._send(claimed)) if claimed else 0
        dead = self._write_letters()
        BREAKER.labels(self._connector).set(self.breaker.state)
        if time.monotonic() - self._counted_at >= COUNTED_EVERY_S:
            PENDING.labels(self.name).set(self.deliveries.pending())
            self._counted_at = time.monotonic()
        return taken + sent + dead

    @cached_property
    def _url(self) -> SplitResult:
        return checked_url(self._connector, self._settings.url or "")

    @cached_property
    def backend(self) -> CheckedBackend:
        """What dials."""
        allowed = Allowed.parse(self._connector, self._settings.allow_private)
        return CheckedBackend(allowed, tls=self._url.scheme == "https")

    def close(self) -> None:
        """Give back the connection."""
        self.deliveries.close()

    def _claim(self) -> list[Claimed]:
        most = self.breaker.admits(self._settings.concurrency)
        lease = timedelta(seconds=self._settings.timeout_s + LEASE_SLACK_S)
        return self.deliveries.claim(most, lease) if most else []

    async def _send(self, claimed: list[Claimed]) -> int:
        sent, rounds = 0, 0
        async with Sender(self._url, self.backend, self._tls, self._settings.timeout_s) as sender:
            while claimed:
                answers = await asyncio.gather(*(self._post(sender, one) for one in claimed))
                fail_at(self.name, "after_write")
                self._settle(list(zip(claimed, answers, strict=True)))
                sent, rounds = sent + len(claimed), rounds + 1
                claimed = self._claim() if rounds < ROUNDS else []
        return sent

    async def _post(self, sender: Sender, one: Claimed) -> Answer | None:
        """None when there is nothing to send: leads does not have the row, or `only` leaves it out."""
        if one.row is None or not one.wanted:
            return None
        content = body(self._settings.mapping, one.row)
        secret = self._settings.secret.get_secret_value() if self._settings.secret else ""
        signed = headers(self._connector, one.event_id, secret, int(one.claimed_at.timestamp()), content)
        return await sender.post(signed, content)

    def _settle(self, answered: Sequence[tuple[Claimed, Answer | None]]) -> None:
        """First, and together, what would be sent again if it were not marked."""
        taken = {
            one.id: answer.status
            for one, answer in answered
            if answer is not None and answer.status is not None and judge(answer) == "delivered"
        }
        if taken:
            self.deliveries.delivered(taken)
        for one, answer in answered:
            if answer is None:
                self._unsent(one)
                continue
            verdict = judge(answer)
            self.breaker.note(verdict == "delivered")
            if verdict == "delivered":
                self._count("delivered", rows_out=1)
            elif verdict == "refused":
                self._end(one, answer, "dead", "sink_rejected")
            else:
                self._again(one, answer, "dead")

    def _unsent(self, one: Claimed) -> None:
        if one.wanted:
            # A rebuild may be filling leads; what does not come back was erased.
            self._again(one, Answer(error="lead_missing"), "gone")
            return
        # It was entered while leads did not have it, or was another, or `only` was.
        self.deliveries.end(one, "gone", None, None, "left_out")
        _log.info("delivery_ended", query=self.name, event_id=one.event_id, end="gone", error="left_out")
        EVENTS.labels(self.name, STREAM, "left_out").inc()

    def _again(self, one: Claimed, answer: Answer, end: str) -> None:
        wait = wait_before_next(one.attempts, one.age, answer.retry_after_s)
        if wait is None:
            self._end(one, answer, end, "gave_up")
            return
        self.deliveries.again(one, wait, answer.status, answer.error)
        EVENTS.labels(self.name, STREAM, "retried").inc()

    def _end(self, one: Claimed, answer: Answer, end: str, reason: str) -> None:
        self.deliveries.end(one, end, reason if end == "dead" else None, answer.status, answer.error)
        if end == "dead":
            self._count("dead", dead=1)
            DEAD.labels(STREAM, f"sink:webhook-{self._connector}", reason).inc()
        else:
            self._count("gone", erased=1)
        _log.warning(
            "delivery_ended", query=self.name, event_id=one.event_id, end=end,
            status=answer.status, error=answer.error,
        )  # fmt: skip

    def _count(self, outcome: str, **counts: int) -> None:
        EVENTS.labels(self.name, STREAM, outcome).inc()
        self._context.totals.add(rows_in=1, **counts)

    def _write_letters(self) -> int:
        dead = self.deliveries.unlettered(LETTERS_AT_ONCE)
        if dead:
            append_letters(self._context, f"webhook-{self._connector}", STREAM, dead)
            fail_at(self.name, "before_commit")
            self.deliveries.lettered(dead)
        return len(dead)


def _check(name: str, connector: Connector) -> None:
    if not connector.url:
        raise SetupError(f"connectors.{name}.url is not set")
    if connector.secret is None or not connector.secret.get_secret_value():
        raise SetupError(f"connectors.{name}.secret is not set: every request is signed with it")
    check_mapping(name, connector.mapping)
    check_only(name, connector.only)
