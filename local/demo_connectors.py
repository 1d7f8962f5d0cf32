"""The demo's connectors: one receiver for all, a share of the leads for each, and what became of it.

The jobs get URL, secret and share by their environment. Some of the first deliveries fail on demand, so that
retries are seen. In the end three counts must be the same: what was sent, judged here by the event's own
words; the ledger in PostgreSQL; and what the receiver had, rightly signed, each event id once.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import parse_qs, urlsplit

from headwater.errors import TransientError
from headwater.identity import event_id
from local.demo_watch import Delivery
from local.environment import RECEIVER
from local.places import SECRETS
from local.traffic import Event, Kind

# One lead in eighty each: a delivery costs both sides milliseconds of the cores that all the others need.
SHARES: dict[str, dict[str, str]] = {
    "crm": {"submission_type": "demo_request", "source": "website", "utm_campaign": "brand"},
    "marketing": {"submission_type": "newsletter", "source": "landing-page", "utm_campaign": "été-2025"},
    "assistant": {"submission_type": "callback", "source": "chatbot", "utm_campaign": "black friday"},
}
# Each after nine deliveries that are taken: five failures in a row would open a breaker for a minute. They
# come early, so that the second attempts, ten seconds later and more, keep nobody waiting in the end.
FAULTS: tuple[dict[str, Any], ...] = ({"status": 503}, {"status": 429}, {"drop": True}) * 3
_TAKEN_BETWEEN = 9
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """What became of a connector's share of a run's leads. `failed` requests were not answered with 200,
    `retried` leads took more than one, `repeats` came again after the receiver had taken them."""

    captured: int
    delivered: int
    failed: int
    retried: int
    open: int
    dead: int
    repeats: int
    faults: list[str] = field(default_factory=list)


def variables() -> dict[str, str]:
    """What the environment of the jobs has in addition."""
    found: dict[str, str] = {}
    for name, share in SHARES.items():
        keys = {
            "URL": f"http://127.0.0.1:{RECEIVER.number}/{name}",
            "SECRET_FILE": str(SECRETS / "webhook"),
            "ALLOW_PRIVATE": json.dumps(["127.0.0.0/8"]),
            "ONLY": json.dumps({column: [value] for column, value in share.items()}),
        }
        found |= {f"HEADWATER_CONNECTORS__{name.upper()}__{key}": value for key, value in keys.items()}
    return found


class Shares:
    """Which leads each connector has to get, noted as they are sent."""

    def __init__(self) -> None:
        self._keys: dict[str, list[str]] = {name: [] for name in SHARES}

    def note(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same events."""
        for event in events:
            if event.kind is Kind.VALID:
                for name in _chosen(json.loads(event.body)):
                    self._keys[name].append(event.key)
            yield event

    def wanted(self, tenants: Mapping[str, str]) -> dict[str, set[str]]:
        """Event ids by connector, of leads that were confirmed (key → tenant)."""
        return {
            name: {event_id(tenants[key], key) for key in keys if key in tenants}
            for name, keys in self._keys.items()
        }


def _chosen(document: dict[str, Any]) -> list[str]:
    """The connectors that this event is for, by what it says itself."""
    said = {
        "submission_type": document["payload"]["submission_type"],
        "source": document["source"],
        "utm_campaign": parse_qs(urlsplit(document["context"]["page_url"]).query)["utm_campaign"][0],
    }
    return [name for name, share in SHARES.items() if share.items() <= said.items()]


def unsettled(wanted: Mapping[str, set[str]], ledger: Iterable[Delivery]) -> int:
    """How many deliveries are not made yet, or not at their end, whichever that is."""
    ended = {(one.connector, one.event_id) for one in ledger if one.status != "pending"}
    return sum((name, lead) not in ended for name, leads in wanted.items() for lead in leads)


def outcomes(
    shares: Shares, tenants: Mapping[str, str], ledger: list[Delivery], seen: list[dict[str, Any]]
) -> dict[str, Outcome]:
    """By connector, for the run's confirmed leads (key → tenant). `ledger` is of this run, `seen` may have
    what an earlier one left open."""
    of_run = {event_id(tenant, key) for key, tenant in tenants.items()}
    return {
        name: _outcome(
            name,
            leads,
            {one.event_id: one for one in ledger if one.connector == name},
            [entry for entry in seen if entry["path"] == f"/{name}"],
            of_run,
        )
        for name, leads in shares.wanted(tenants).items()
    }


def _outcome(
    name: str, wanted: set[str], ledger: dict[str, Delivery], seen: list[dict[str, Any]], of_run: set[str]
) -> Outcome:
    had: Counter[str] = Counter()
    strange = 0
    for entry in seen:
        connector, _, lead = entry["key"].partition(":")
        strange += not entry["signed"] or connector != name
        # None: it had the request, and closed the connection instead of an answer.
        if entry["signed"] and entry["answer"] in (200, None):
            had[lead] += 1
    states = Counter(one.status for one in ledger.values())
    delivered = {lead for lead, one in ledger.items() if one.status == "delivered"}
    counts = {
        "leads that the receiver has not had": len(wanted - had.keys()),
        "leads that the receiver should not have had": len((had.keys() & of_run) - wanted),
        "leads that webhook_deliveries does not call delivered": len(wanted - delivered),
        "leads that webhook_deliveries should not have": len(ledger.keys() - wanted),
        "requests with a wrong signature or key": strange,
    }
    return Outcome(
        captured=len(wanted),
        delivered=len(wanted & had.keys()),
        failed=sum(entry["answer"] != 200 for entry in seen),
        retried=sum(one.attempts > 1 for one in ledger.values()),
        open=states["pending"],
        dead=states["dead"] + states["gone"],
        repeats=sum(had[lead] - 1 for lead in wanted & had.keys()),
        faults=[f"connector {name}: {count} {what}" for what, count in counts.items() if count],
    )


def answers() -> bool:
    """Whether the receiver is there."""
    try:
        _ask("GET")
    except TransientError:
        return False
    return True


def plan_steps() -> list[dict[str, Any]]:
    """The receiver's plan: FAULTS, spread out."""
    return [step for fault in FAULTS for step in ({"times": _TAKEN_BETWEEN}, fault)]


def plan_faults() -> None:
    """Have the receiver fail some of the next deliveries."""
    _ask("PUT", "/_plan", json.dumps(plan_steps()))


def seen() -> list[dict[str, Any]]:
    """The deliveries that came to the receiver since its start."""
    return list(json.loads(_ask("GET")))


def _ask(method: str, path: str = "/_seen", body: str | None = None) -> bytes:
    connection = HTTPConnection("127.0.0.1", RECEIVER.number, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body)
        return connection.getresponse().read()
    except (OSError, HTTPException) as fault:
        raise TransientError(f"the receiver does not answer ({type(fault).__name__})") from fault
    finally:
        connection.close()
