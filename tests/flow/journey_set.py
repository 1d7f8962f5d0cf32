"""A labelled set: made-up people who fill in forms, and what a CRM makes of them, with whom each thing is.

It has what makes matching hard: people who come back, who write their address otherwise at the second time,
colleagues behind one address, a form's id that was lost on the way, things that were never captured.
"""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from tests.flow.crm_rows import NOON

Row = dict[str, Any]
LOST_ID = 0.5  # of the leads that a CRM made, so many do not name the form they came by
OTHER_ADDRESS = 0.08  # so many are known to the CRM by another one
SHARED_ADDRESS = 0.1  # so many write from an address of their office
ENTERED_BY_HAND = 0.15


@dataclass
class LabelledSet:
    """Rows of silver by table, and the truth: CRM lead → the captured lead that it is made of."""

    leads: list[Row] = field(default_factory=list)
    crm_leads: list[Row] = field(default_factory=list)
    contacts: list[Row] = field(default_factory=list)
    deals: list[Row] = field(default_factory=list)
    truth: set[tuple[str, str, str]] = field(default_factory=set)


def labelled(people: int, seed: int, days: int = 300) -> LabelledSet:
    """So many people of two tenants, who came within so many days; the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - sample data
    made = LabelledSet()
    for number in range(people):
        _person(made, rng, number, days)
    return made


def _person(made: LabelledSet, rng: random.Random, number: int, days: int) -> None:
    tenant = rng.choice(("acme", "globex"))
    own = f"person{number}@example.com"
    address = f"office{number // 100}@example.org" if rng.random() < SHARED_ADDRESS else own
    at = NOON - timedelta(days=rng.uniform(5, days))
    if rng.random() < ENTERED_BY_HAND:
        _crm_lead(made, rng, number, None, {"tenant_id": tenant, "email": own, "event_time": at})
        return
    for visit in range(rng.choice((1, 1, 1, 2, 3))):
        at += timedelta(days=rng.uniform(0.5, 30)) if visit else timedelta()
        lead_id = f"lead-{number}-{visit}"
        said = {"tenant_id": tenant, "id": lead_id, "event_id": f"event-{lead_id}", "email": address}
        form = {"source": rng.choice(("web", "fair")), "utm_campaign": rng.choice(("spring", None))}
        made.leads.append({**said, **form, "received_at": at, "event_time": at})
        if rng.random() < 0.5:
            known = f"other{number}@example.net" if rng.random() < OTHER_ADDRESS else address
            soon = at + timedelta(days=rng.expovariate(1 / 2))
            crm = {"tenant_id": tenant, "email": known, "event_time": soon}
            _crm_lead(made, rng, f"{number}-{visit}", lead_id, crm)


def _crm_lead(made: LabelledSet, rng: random.Random, name: object, lead_id: str | None, crm: Row) -> None:
    names_it = lead_id and rng.random() >= LOST_ID
    metadata = f'{{"correlationId": "{lead_id}"}}' if names_it else '{"source": "crm"}'
    crm_lead_id = f"l{name}"
    made.crm_leads.append({**crm, "lead_id": crm_lead_id, "metadata": metadata})
    if lead_id:
        made.truth.add((crm["tenant_id"], lead_id, crm_lead_id))
    if rng.random() < 0.5:
        return
    later = crm["event_time"] + timedelta(days=rng.uniform(1, 9))
    contact = {**crm, "event_time": later, "contact_id": f"c{name}"}
    made.contacts.append({**contact, "lead_id": rng.choice((crm_lead_id, None))})
    closed = rng.choice(("won", "lost", "updated"))
    made.deals.append(
        {
            "tenant_id": crm["tenant_id"],
            "event_time": later,
            "event_type": f"opportunity.{closed}",
            "opportunity_id": f"o{name}",
            "contact_id": contact["contact_id"],
            "stage": closed,
            "amount": Decimal(rng.randrange(1_000_000)).scaleb(-2),
            "currency": "EUR",
        }
    )


def precision_and_recall(found: set[tuple[str, str, str]], made: LabelledSet) -> tuple[float, float]:
    """Of the matches found, and of those there are, the share that is both."""
    right = len(found & made.truth)
    return right / len(found), right / len(made.truth)
