"""Sample traffic for the stream lead.ingest: the same seed gives the same events, in the same order.

An event is valid, a duplicate of an earlier one, broken in one of FLAWS, or without consent. How many there
are of each kind is exact, so that whoever sends them knows what has to come out at the other end. Nobody is
written to or called: addresses are in example domains, numbers in ranges kept free for fiction.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import chain, cycle
from typing import Any
from urllib.parse import quote, urlencode

from headwater.clock import iso, utc_now

TENANTS = ("acme", "globex")
FIRST = (
    "Anna José Zoë Søren Łukasz Мария 美咲 Nguyễn Aoife Björn Chloé Dragan Elif Fatima Giánnis Håkon Jörg"
).split()
LAST = (
    "Müller O'Brien García Nowak Åkesson Иванова 佐藤 Trần Öztürk d'Angelo Smith-Jones Šimić Ødegård Mbeki"
).split()
SOURCES = ("website", "chatbot", "landing-page", "partner")
TYPES = ("demo_request", "contact", "newsletter", "callback", "pricing")
CAMPAIGNS = ("spring", "été-2025", "black friday", "brand")
MESSAGES = (
    "Please call me about the team plan … tomorrow, if that suits you.",
    "Können Sie mir ein Angebot für 25 Plätze schicken?",
    "お見積もりをお願いします。",
    "How does your product compare with what we use now? Thanks 🙂",
)
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    "curl/8.7.1",
)
# Ranges that nobody is given: +1 202 555 01xx, Ofcom's and the Bundesnetzagentur's numbers for drama.
PHONES = ("+120255501{:02d}", "+447700900{:03d}", "+493023125{:03d}")
NO_PHONES = ("12345", "call me", "+999 000", "0049-0")
# A duplicate repeats one of this many latest valid events.
_REMEMBERED = 500


class Kind(StrEnum):
    """What an event is meant to become."""

    VALID = "valid"
    DUPLICATE = "duplicate"
    BROKEN = "broken"
    NO_CONSENT = "no_consent"


class Way(StrEnum):
    """How it is sent: through the API, or by a producer that bypasses it."""

    HTTP = "http"
    KAFKA = "kafka"


@dataclass(frozen=True, slots=True)
class Event:
    """One event to send. `key` is its dedupe key; `flaw` names what is broken, `code` the reason that it must
    be refused for; `topic` is where it goes, past the API."""

    kind: Kind
    tenant: str
    key: str
    body: bytes
    flaw: str | None = None
    code: str | None = None
    topic: str = "lead.ingest"


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds; the rest is valid."""

    duplicate: float = 0.05
    broken: float = 0.05
    no_consent: float = 0.03

    def counts(self, total: int) -> dict[Kind, int]:
        """How many of `total` events there are of each kind. At least one is valid."""
        shares = {Kind.DUPLICATE: self.duplicate, Kind.BROKEN: self.broken, Kind.NO_CONSENT: self.no_consent}
        if min(shares.values()) < 0 or sum(shares.values()) > 1:
            raise ValueError("shares are from 0 to 1 and together at most 1")
        counts = {}
        left = max(total - 1, 0)
        for kind, share in shares.items():
            counts[kind] = min(round(total * share), left)
            left -= counts[kind]
        return {Kind.VALID: total - sum(counts.values()), **counts}


@dataclass(frozen=True)
class Flaw:
    """A way to be broken: the reason code it must be refused for, and the bytes made of a valid document."""

    code: str
    spoil: Callable[[dict[str, Any]], bytes]
    ways: tuple[Way, ...] = (Way.HTTP, Way.KAFKA)


def traffic(
    way: Way,
    total: int,
    *,
    run: str,
    seed: int,
    mix: Mix | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Iterator[Event]:
    """`total` events whose keys begin with `run`. `clock` gives the time of receipt in Kafka's events."""
    rng = random.Random(f"{seed}/{way}")  # noqa: S311 - sample data, not secrets
    flaws = _flaws_of(way)
    recent: list[Event] = []
    for number, kind in enumerate(kinds(total, mix or Mix(), rng)):
        if kind is Kind.DUPLICATE:
            again = rng.choice(recent)
            yield Event(kind, again.tenant, again.key, again.body)
            continue
        flaw = next(flaws) if kind is Kind.BROKEN else None
        event = _event(way, kind, flaw, f"{run}{number:06d}", rng, clock())
        if kind is Kind.VALID:
            recent = [*recent[1 - _REMEMBERED :], event]
        yield event


def kinds(total: int, mix: Mix, rng: random.Random) -> list[Kind]:
    """Every event's kind; the first is valid, so that there is something to repeat."""
    counts = mix.counts(total)
    rest = [kind for kind, count in counts.items() for _ in range(count - (kind is Kind.VALID))]
    rng.shuffle(rest)
    return [Kind.VALID, *rest][:total]


def _flaws_of(way: Way) -> Iterator[str]:
    """Each flaw in turn; a body beyond the size limit only once."""
    names = [name for name, flaw in FLAWS.items() if way in flaw.ways]
    once = [name for name in names if name == "too_large"]
    return chain(once, cycle(name for name in names if name != "too_large"))


def _event(way: Way, kind: Kind, flaw: str | None, key: str, rng: random.Random, now: datetime) -> Event:
    tenant = rng.choice(TENANTS)
    document = _document(key, rng)
    document["payload"]["consent"] = kind is not Kind.NO_CONSENT
    if way is Way.KAFKA:
        made = {"tenant_id": tenant, "idempotency_key": key, "received_at": iso(now)}
        document = {**made, **document}
    body = FLAWS[flaw].spoil(document) if flaw else dump(document)
    return Event(kind, tenant, key, body, flaw, FLAWS[flaw].code if flaw else None)


def _document(key: str, rng: random.Random) -> dict[str, Any]:
    query = urlencode({"utm_source": "ads", "utm_campaign": rng.choice(CAMPAIGNS)}, quote_via=quote)
    page = f"https://www.example.com/{rng.choice(TYPES)}?{query}"
    return {
        "source": rng.choice(SOURCES),
        "payload": {
            "first_name": rng.choice(FIRST),
            "last_name": rng.choice(LAST),
            "email": f"lead.{key}@example.{rng.choice(('com', 'org', 'net'))}",
            "phone": _phone(rng),
            "message": rng.choice(MESSAGES),
            "submission_type": rng.choice(TYPES),
        },
        "context": {
            "ip_address": rng.choice(
                (f"192.0.2.{rng.randrange(256)}", f"2001:db8::{rng.randrange(65536):x}")
            ),
            "user_agent": rng.choice(AGENTS),
            "page_url": page,
            "utm": {"source": "ads", "medium": rng.choice(("cpc", "email"))},
        },
        "metadata": {"form": rng.randrange(40), "score": round(rng.random(), 3)},
    }


def _phone(rng: random.Random) -> str | None:
    """One in ten has none, one in ten something that is not a number: both are valid leads."""
    chance = rng.random()
    if chance < 0.1:
        return None
    return rng.choice(NO_PHONES) if chance < 0.2 else rng.choice(PHONES).format(rng.randrange(100))


def dump(document: object) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


# How to break a document. Each function takes a valid one.


def _with(section: str, name: str, value: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda document: dump({**document, section: {**document[section], name: value}})


def _without(section: str, name: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda document: dump(
        {**document, section: {k: v for k, v in document[section].items() if k != name}}
    )


def _raw(section: str, name: str, text: bytes) -> Callable[[dict[str, Any]], bytes]:
    """The value as these bytes, which json.dumps would never write."""
    marked = _with(section, name, "@@")
    return lambda document: marked(document).replace(b'"@@"', text)


def _top(name: str, value: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda document: dump({**document, name: value})


def _cut(document: dict[str, Any]) -> bytes:
    return dump(document)[:-2]


def _far_future(document: dict[str, Any]) -> bytes:
    return dump({**document, "received_at": iso(utc_now() + timedelta(days=3653))})


def _deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


FLAWS: dict[str, Flaw] = {
    "too_large": Flaw("too_large", _with("payload", "message", "x" * (1 << 20)), (Way.KAFKA,)),
    "not_json": Flaw("malformed_json", _cut),
    "wrong_type": Flaw("type_mismatch", _with("payload", "email", 42)),
    "missing_email": Flaw("missing_required", _without("payload", "email")),
    "missing_consent": Flaw("missing_required", _without("payload", "consent")),
    "nul": Flaw("nul_character", _with("payload", "message", "before\0after")),
    "fifty_deep": Flaw("too_deep", _raw("metadata", "nested", _deep(50))),
    "nan": Flaw("malformed_json", _raw("metadata", "score", b"NaN")),
    "1e400": Flaw("type_mismatch", _raw("metadata", "score", b"1e400")),
    "invalid_utf8": Flaw("invalid_utf8", _raw("payload", "message", b'"\xff\xfe"')),
    "empty": Flaw("empty", lambda _: b""),
    "lone_surrogate": Flaw("invalid_utf8", _raw("payload", "message", b'"\\ud83d"')),
    "too_long": Flaw("rule:max_length", _with("payload", "first_name", "ä" * 256)),
    "bad_email": Flaw("rule:pattern", _with("payload", "email", "not-an-address")),
    "not_an_object": Flaw("type_mismatch", lambda document: dump([document])),
    "unknown_field": Flaw("rule:unknown_field", _top("recieved_at", "today"), (Way.HTTP,)),
    "year_2036": Flaw("event_time_out_of_range", _far_future, (Way.KAFKA,)),
    "no_tenant": Flaw("tenant_missing", _top("tenant_id", None), (Way.KAFKA,)),
    "bad_event_id": Flaw("rule:format", _top("event_id", "17"), (Way.KAFKA,)),
}
