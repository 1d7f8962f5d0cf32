"""A request's body → the event that lead.ingest carries, or everything that is wrong with it.

Known text fields are put into NFC, trimmed, and null when empty; the e-mail address is in lower case.
Refine applies the same rules again, so what is accepted here is never refused there for its form. Unknown
keys inside payload, context and metadata are kept as they came; unknown top-level keys are refused.
`payload.consent` false wins over every other fault once the body is a JSON object.
"""

import hashlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import orjson

from api.document import MAX_FAULTS, decode, step
from api.problems import Fault
from headwater import identity
from headwater.clock import iso
from headwater.text import WHITESPACE, nfc
from schemas.contract import Contract, Field, contracts

STREAM = "lead.ingest"
MAX_KEY = 255
MALFORMED = frozenset({"empty", "invalid_utf8", "malformed_json", "too_deep"})
_GIVEN = frozenset({"source", "payload", "context", "metadata", "idempotency_key", "tenant_id"})
_MADE_HERE = frozenset({"event_id", "tenant_id", "received_at", "idempotency_key"})
_LOWER_CASE = frozenset({("payload", "email")})
_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "timestamp": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "object": (dict,),
}


@dataclass(frozen=True, slots=True)
class Submission:
    """What identifies a submission, the same on every retry."""

    event_id: str
    idempotency_key: str
    received_at: str


@dataclass(frozen=True, slots=True)
class Accepted(Submission):
    """An event to publish."""

    source: str
    message_key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Discarded(Submission):
    """The person did not agree: nothing of it may be kept."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an event is not accepted. `source` is what the body said, if it is a short text."""

    faults: tuple[Fault, ...]
    source: str | None

    @property
    def status(self) -> int:
        """400 when the text is not a document that we take, else 422."""
        return 400 if self.faults[0].code in MALFORMED else 422

    @property
    def code(self) -> str:
        return self.faults[0].code if self.status == 400 else "invalid_event"


@cache
def contract() -> Contract:
    """The contract of lead.ingest."""
    return contracts()[STREAM]


def read(raw: bytes, tenant_id: str, header_key: str | None, now: datetime) -> Accepted | Discarded | Refused:
    """Judge one body sent by `tenant_id`'s credential. All faults are found, up to MAX_FAULTS."""
    body, faults = decode(raw)
    if not isinstance(body, dict):
        return Refused(tuple(faults) or (Fault("", "type_mismatch", "must be an object"),), None)
    given_key = _key(body, header_key, faults)
    _check_top(body, tenant_id, faults)
    event: dict[str, Any] = {
        "source": body.get("source"),
        "payload": body.get("payload"),
        "context": body.get("context"),
        "metadata": body.get("metadata"),
    }
    refused = _consent(event["payload"]) is False
    _visit(event, _rules(), faults)
    key = given_key or _derived_key(event, raw)
    made = Submission(identity.event_id(tenant_id, key), key, iso(now))
    if refused:
        return Discarded(made.event_id, key, made.received_at)
    if faults:
        ordered = sorted(faults, key=lambda found: found.code not in MALFORMED)
        return Refused(tuple(ordered[:MAX_FAULTS]), _short(event["source"]))
    return Accepted(
        made.event_id,
        key,
        made.received_at,
        event["source"],
        identity.message_key(tenant_id, key),
        _serialise(event, tenant_id, made),
    )


def clean(text: str) -> str | None:
    """NFC, trimmed; None when nothing is left."""
    return (text.strip() if text.isascii() else nfc(text).strip(WHITESPACE)) or None


def clean_email(text: str) -> str | None:
    """As `clean`, in lower case."""
    return text.strip().lower() or None if text.isascii() else clean(nfc(text).lower())


def _serialise(event: dict[str, Any], tenant_id: str, made: Submission) -> bytes:
    return orjson.dumps(
        {
            "event_id": made.event_id,
            "tenant_id": tenant_id,
            "idempotency_key": made.idempotency_key,
            "received_at": made.received_at,
            "source": event["source"],
            "payload": event["payload"],
            "context": event["context"] or {},
            "metadata": event["metadata"] or {},
        }
    )


def _consent(payload: object) -> object:
    return payload.get("consent") if isinstance(payload, dict) else None


def _short(source: object) -> str | None:
    return source if isinstance(source, str) and len(source) <= 50 and source.isprintable() else None


def _check_top(body: dict[str, Any], tenant_id: str, faults: list[Fault]) -> None:
    if not body.keys() <= _GIVEN:
        for key in body.keys() - _GIVEN:
            faults.append(Fault(step("", key), "rule:unknown_field", "is not a field of this request"))
    tenant = body.get("tenant_id")
    if tenant is not None and tenant != tenant_id:
        faults.append(Fault("/tenant_id", "rule:tenant_match", "is not the credential's tenant"))


def _key(body: dict[str, Any], header: str | None, faults: list[Fault]) -> str | None:
    """The idempotency key that the client gave, None when it gave none that can be used."""
    pointer = "/idempotency_key"
    found = len(faults)
    if header is not None and not (header.isascii() and header.isprintable()):
        faults.append(Fault(pointer, "rule:pattern", "must be printable ASCII as a header"))
    given = body.get("idempotency_key")
    if given is not None and not isinstance(given, str):
        faults.append(Fault(pointer, "type_mismatch", "must be a string"))
        given = None
    keys = {key for text in (given, header) if text is not None and (key := clean(text))}
    if max(map(len, keys), default=0) > MAX_KEY:
        faults.append(Fault(pointer, "rule:max_length", f"is longer than {MAX_KEY} characters"))
    if len(keys) > 1:
        faults.append(Fault(pointer, "rule:idempotency_key_match", "differs between header and body"))
    return keys.pop() if keys and len(faults) == found and all(map(_encodes, keys)) else None


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _derived_key(event: dict[str, Any], raw: bytes) -> str:
    """SHA-256 of the normalised source and payload; of the bytes when those cannot be written as JSON."""
    payload = event["payload"]
    if isinstance(payload, dict):
        payload = {name: value for name, value in payload.items() if value is not None}
    try:
        text = orjson.dumps({"source": event["source"], "payload": payload}, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        text = raw
    return hashlib.sha256(text).hexdigest()


def _visit(holder: dict[str, Any], rules: tuple["_Rule", ...], faults: list[Fault]) -> None:
    """Normalise the fields in place and collect what is wrong with them and their children."""
    for rule in rules:
        value: Any = holder.get(rule.name)
        kind = type(value)
        if kind is str and rule.clean:
            value = holder[rule.name] = rule.clean(value)
        if value is None:
            if rule.required:
                faults.append(Fault(rule.pointer, "missing_required", "is required"))
        elif kind not in rule.types:
            faults.append(Fault(rule.pointer, "type_mismatch", f"must be of type {rule.kind}"))
        elif kind is not str:
            _visit(value, rule.children, faults)
        elif rule.pattern or len(value) > rule.most:
            _visit_text(value, rule, faults)


def _visit_text(text: str, rule: "_Rule", faults: list[Fault]) -> None:
    if len(text) > rule.most:
        faults.append(Fault(rule.pointer, "rule:max_length", f"is longer than {rule.most} characters"))
    if rule.pattern and not rule.pattern.fullmatch(text):
        faults.append(Fault(rule.pointer, "rule:pattern", "does not have the form that is asked for"))


@dataclass(frozen=True, slots=True)
class _Rule:
    """A field of the contract, ready to be applied."""

    name: str
    pointer: str
    kind: str
    types: tuple[type, ...]  # of what a parser gives; bool is none of the numbers
    required: bool
    most: int  # characters
    pattern: re.Pattern[str] | None
    clean: Callable[[str], str | None] | None
    children: tuple["_Rule", ...]


def _rule(field: Field) -> _Rule:
    cleaner = clean_email if field.path in _LOWER_CASE else clean
    return _Rule(
        name=field.name,
        pointer=field.pointer,
        kind=field.kind,
        types=_KINDS[field.kind],
        required=field.required,
        most=field.max_length or sys.maxsize,
        pattern=re.compile(field.pattern) if field.pattern else None,
        clean=None if field.kind == "object" else cleaner,
        children=tuple(_rule(child) for child in field.children),
    )


@cache
def _rules() -> tuple[_Rule, ...]:
    return tuple(_rule(field) for field in contract().fields if field.name not in _MADE_HERE)
