"""Sample traffic for the domain crm: people and deals that belong together, as a CRM's outbox tells of them.

A lead comes, changes, and some are converted: into a contact and an opportunity, which refer to it and go
through their stages until they are won or lost. What happens besides (calls, notes) comes by the wildcard.
Like local/traffic.py the same seed gives the same events in the same order, and each kind comes exactly as
often as it is said to.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import cycle
from typing import Any, NamedTuple
from uuid import UUID

from headwater.clock import utc_now
from local.traffic import FIRST, LAST, TENANTS, Event, Kind, Mix, dump, kinds
from schemas.avro import framed, parsed
from sources.registry import avro_schema

TOPICS = ("crm.leads", "crm.contacts", "crm.opportunities", "crm.events")
STAGES = ("prospecting", "proposal", "negotiation")
_SOURCES = ("web", "fair", "partner", "referral")
_CURRENCIES = ("EUR", "USD")
_CALLS = ("call.ended", "note.added", "meeting.held")
_OPEN = 30
_REMEMBERED = 500
Document = dict[str, Any]


class Told(NamedTuple):
    """What the CRM tells of a thing."""

    tenant: str
    topic: str
    event_type: str
    data: Any


@dataclass(frozen=True)
class Spoil:
    """A way to be broken: the reason code it must be refused for, what is done to the document, and to the
    bytes made of it."""

    code: str
    document: Callable[[Document], Document] = lambda document: document
    raw: Callable[[bytes], bytes] = lambda raw: raw


def crm(
    total: int,
    numbers: Mapping[str, int],
    *,
    run: str,
    seed: int,
    mix: Mix | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Iterator[Event]:
    """`total` events over all topics, whose ids begin with `run`; `numbers` are those that the registry gave
    the schemas, by topic. Nobody is asked for consent here."""
    made = _Maker(run, numbers, random.Random(f"{seed}/crm"), clock)  # noqa: S311 - sample data, not secrets
    for kind in kinds(total, mix or Mix(no_consent=0), made.rng):
        yield made.event(kind)


class _Maker:
    def __init__(
        self, run: str, numbers: Mapping[str, int], rng: random.Random, clock: Callable[[], datetime]
    ) -> None:
        self.rng = rng
        self._run = run
        self._numbers = numbers
        self._schemas = {topic: parsed(avro_schema(topic)) for topic in TOPICS}
        self._clock = clock
        self._number = 0
        self._recent: list[Event] = []
        self._flaws = {topic: cycle(flaws) for topic, flaws in _FLAWS_OF.items()}
        # What goes on: each step gives an event, and changes what the next one will be.
        self._going: list[Iterator[Told]] = [self._story() for _ in range(_OPEN)]

    def event(self, kind: Kind) -> Event:
        if kind is Kind.DUPLICATE:
            again = self.rng.choice(self._recent)
            return Event(kind, again.tenant, again.key, again.body, topic=again.topic)
        told = self._next()
        document = {
            "id": str(UUID(int=self.rng.getrandbits(128), version=4)),
            "eventId": self._id("e"),
            "eventType": told.event_type,
            "organizationId": told.tenant,
            "timestamp": self._clock(),
            "data": told.data,
            "metadata": {"source": "crm-outbox", "version": "1", "correlationId": None},
        }
        flaw = next(self._flaws[told.topic]) if kind is Kind.BROKEN else None
        spoil = FLAWS[flaw] if flaw else Spoil("")
        said = spoil.document(document)
        body = spoil.raw(framed(self._numbers[told.topic], self._schemas[told.topic], said))
        made = Event(kind, told.tenant, document["eventId"], body, flaw, spoil.code or None, told.topic)
        if kind is Kind.VALID:
            self._recent = [*self._recent[1 - _REMEMBERED :], made]
        return made

    def _next(self) -> Told:
        while True:
            place = self.rng.randrange(len(self._going))
            found = next(self._going[place], None)
            if found:
                return found
            self._going[place] = self._story()

    def _id(self, letter: str) -> str:
        self._number += 1
        return f"{self._run}{letter}{self._number:07d}"

    def _story(self) -> Iterator[Told]:
        """A lead's way through the CRM."""
        tenant, lead = self.rng.choice(TENANTS), self._lead()
        yield self._told(tenant, "crm.leads", "lead.created", lead)
        for score in sorted(self.rng.sample(range(100), self.rng.randrange(3))):
            lead |= {"score": score, "status": "working"}
            yield self._told(tenant, "crm.leads", "lead.updated", lead)
        yield self._note(tenant, lead["id"])
        if self.rng.random() < 0.5:
            return
        lead |= {"status": "converted"}
        yield self._told(tenant, "crm.leads", "lead.converted", lead)
        contact = {
            name: lead[name] for name in ("firstName", "lastName", "email", "phone", "company", "title")
        }
        contact |= {"id": self._id("c"), "leadId": lead["id"]}
        yield self._told(tenant, "crm.contacts", "contact.created", contact)
        yield from self._deal(tenant, lead, contact)

    def _deal(self, tenant: str, lead: Document, contact: Document) -> Iterator[Told]:
        deal = {
            "id": self._id("o"),
            "name": f"{lead['company']}, {self.rng.randrange(5, 500)} seats",
            "leadId": lead["id"],
            "contactId": contact["id"],
            "amount": Decimal(self.rng.randrange(50_000, 20_000_000)).scaleb(-2),
            "currency": self.rng.choice(_CURRENCIES),
            "stage": STAGES[0],
            "probability": 10,
            "expectedCloseDate": (self._clock() + timedelta(days=self.rng.randrange(7, 120))).date(),
        }
        yield self._told(tenant, "crm.opportunities", "opportunity.created", deal)
        for step, stage in enumerate(STAGES[1:], 1):
            deal |= {"stage": stage, "probability": 10 + 30 * step}
            yield self._told(tenant, "crm.opportunities", "opportunity.updated", deal)
            yield self._note(tenant, deal["id"])
        won = self.rng.random() < 0.4
        deal |= (
            {"stage": "closed_won", "probability": 100} if won else {"stage": "closed_lost", "probability": 0}
        )
        yield self._told(tenant, "crm.opportunities", "opportunity.won" if won else "opportunity.lost", deal)

    def _told(self, tenant: str, topic: str, event_type: str, data: Document) -> Told:
        now = self._clock()
        data.setdefault("createdAt", now)
        data |= {"updatedAt": now, "organizationId": tenant}
        return Told(tenant, topic, event_type, dict(data))

    def _note(self, tenant: str, thing: str) -> Told:
        data = dump({"about": thing, "minutes": self.rng.randrange(60)}).decode()
        return Told(tenant, "crm.events", self.rng.choice(_CALLS), data)

    def _lead(self) -> Document:
        lead_id = self._id("l")
        return {
            "id": lead_id,
            "firstName": self.rng.choice(FIRST),
            "lastName": self.rng.choice(LAST),
            "email": f"lead.{lead_id}@example.{self.rng.choice(('com', 'org', 'net'))}",
            "phone": self.rng.choice((None, f"+120255501{self.rng.randrange(100):02d}")),
            "company": self.rng.choice(("Example & Söhne", "Sample Inc", "Muster AG")),
            "title": self.rng.choice((None, "Head of Sales", "Einkäuferin")),
            "source": self.rng.choice(_SOURCES),
            "status": "new",
            "score": None,
            "assignedTo": self.rng.choice((None, "sales-1", "sales-2")),
        }


def _with(**changes: object) -> Callable[[Document], Document]:
    return lambda event: {**event, **changes}


def _in_data(**changes: object) -> Callable[[Document], Document]:
    return lambda event: {**event, "data": {**event["data"], **changes}}


_BEFORE_2000 = datetime.fromisoformat("1999-12-31T23:59:59Z")
FLAWS = {
    "not_avro": Spoil("avro_mismatch", raw=lambda raw: b'{"eventId": "e1"}'),
    "cut": Spoil("avro_mismatch", raw=lambda raw: raw[:-3]),
    "unknown_number": Spoil("unknown_schema_id", raw=lambda raw: b"\0\x7f\xff\xff\xff" + raw[5:]),
    "no_organization": Spoil("tenant_missing", _with(organizationId="")),
    "year_1999": Spoil("event_time_out_of_range", _with(timestamp=_BEFORE_2000)),
    "other_type": Spoil("rule:enum", _with(eventType="invoice.paid")),
    "shouted_type": Spoil("rule:pattern", _with(eventType="CALL")),
    "other_tenant": Spoil("rule:tenant_match", _in_data(organizationId="initech")),
    "no_id": Spoil("missing_required", _in_data(id="")),
    "negative_amount": Spoil("rule:minimum", _in_data(amount=Decimal("-1.00"))),
    "sure_thing": Spoil("rule:maximum", _in_data(probability=110)),
}
_ANYWHERE = ("not_avro", "cut", "unknown_number", "no_organization", "year_1999")
_FLAWS_OF = {
    "crm.leads": (*_ANYWHERE, "other_type", "other_tenant", "no_id"),
    "crm.contacts": (*_ANYWHERE, "other_type", "other_tenant", "no_id"),
    "crm.opportunities": (*_ANYWHERE, "other_type", "negative_amount", "sure_thing"),
    "crm.events": (*_ANYWHERE, "shouted_type"),
}
