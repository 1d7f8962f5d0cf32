"""A document → the contract's values, and every reason why it is not what its contract says."""

import re
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

from headwater.decimals import fits
from schemas.contract import Contract, Field
from schemas.envelope import to_json
from transformations.values import clean_text, day, instant

EARLIEST_US = 946_684_800_000_000  # 2000-01-01T00:00:00Z
LATEST_AFTER_ARRIVAL_US = 86_400_000_000
EPOCH_MS = range(-62_135_596_800_000, 253_402_300_800_000)  # the years 1 to 9999
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LARGEST_INTEGER = (1 << 63) - 1
_SENTENCES = {
    "empty": "the record has no value",
    "too_large": "the record is larger than is taken: 1 MiB, by HTTP 64 KiB",
    "invalid_utf8": "the text is not UTF-8",
    "malformed_json": "the text is not one JSON value",
    "too_deep": "arrays and objects nest more than 32 levels",
    "nul_character": "a string holds the character U+0000",
    "type_mismatch": "the value has another type than the contract says",
    "missing_required": "the field is required",
    "tenant_missing": "the field that names the tenant is required",
    "event_time_out_of_range": "the event time is before 2000 or more than a day after arrival",
    "rule:max_length": "the value is longer than the contract allows",
    "rule:pattern": "the value does not have the form that the contract asks for",
    "rule:format": "the value does not have the format that the contract asks for",
    "rule:enum": "the value is none of those that the contract lists",
    "rule:minimum": "the value is less than the contract allows",
    "rule:maximum": "the value is more than the contract allows",
    "rule:multiple_of": "the value has more places behind the point than the contract allows",
    "rule:unknown_field": "the request has no such field",
    "rule:tenant_match": "the value names another tenant than the credential or the event does",
    "rule:idempotency_key_match": "the key differs between header and body",
}
_UNTOLD = "the record is not what its contract says"
_TOLD = 4096
Reason = tuple[str, str]  # code, JSON Pointer of the field
# Takes a field's value, which is not null, into the event.
Take = Callable[[Any, "Event"], None]
_Step = tuple[str, Take, Reason | None]  # name, what to do with a value, what to say without one


@lru_cache(maxsize=_TOLD)
def told(reason: Reason) -> dict[str, str | None]:
    """A reason as a dead letter holds it: code, rule when it is one, field, a sentence without any value."""
    code, field = reason
    rule = code.removeprefix("rule:") if code.startswith("rule:") else None
    return {"code": code, "rule": rule, "field": field, "message": _SENTENCES.get(code, _UNTOLD)}


def in_time(event_us: int, arrived_us: int) -> bool:
    """Whether an event time is from 2000 on, and no more than a day after arrival."""
    return EARLIEST_US <= event_us <= arrived_us + LATEST_AFTER_ARRIVAL_US


class Event:
    """What a document says: values by JSON Pointer (absent or unfit ones are not there), the fields that the
    contract does not name, by pointer, and the reasons against it, in the contract's order."""

    __slots__ = ("arrived_us", "extras", "reasons", "values")

    def __init__(self, arrived_us: int) -> None:
        self.arrived_us = arrived_us
        self.values: dict[str, Any] = {}
        self.extras: dict[str, Any] = {}
        self.reasons: list[Reason] = []


def reader(contract: Contract) -> Callable[[dict[str, Any], int], Event]:
    """A function (document, arrival in µs) → Event.

    Strings are cleaned; timestamps are microseconds since 1970, dates days; numbers are Decimal; objects that
    name no children are JSON text. A field whose parent is missing or of another type is not reported too.
    """
    visit, again = _visitor(contract, contract.fields, ""), contract.tenant_again

    def read(document: dict[str, Any], arrived_us: int) -> Event:
        event = Event(arrived_us)
        visit(document, event)
        if again:
            tenant = event.values.get(contract.tenant_field)
            if event.values.get(again, tenant) != tenant:
                event.reasons.append(("rule:tenant_match", again))
        return event

    return read


# The contract is compiled into closures once: each field costs a call and a few local names a record.


def _visitor(contract: Contract, fields: tuple[Field, ...], prefix: str) -> Take:
    steps = tuple(_step(contract, field) for field in fields)
    names = frozenset(field.name for field in fields)

    def visit(holder: dict[str, Any], event: Event) -> None:
        for name, take, missing in steps:
            value = holder.get(name)
            if value is not None:
                take(value, event)
            elif missing:
                event.reasons.append(missing)
        if not names.issuperset(holder):
            for name in [name for name in holder if name not in names]:
                step = name.replace("~", "~0").replace("/", "~1")  # RFC 6901 §3
                event.extras[f"{prefix}/{step}"] = holder[name]

    return visit


def _step(contract: Contract, field: Field) -> _Step:
    missing = None
    if field.required:
        code = "tenant_missing" if field.pointer == contract.tenant_field else "missing_required"
        missing = (code, field.pointer)
    return field.name, _taker(contract, field, missing), missing


def _taker(contract: Contract, field: Field, missing: Reason | None) -> Take:
    if field.children:
        return _of_type(dict, field.pointer, _visitor(contract, field.children, field.pointer))
    if field.kind == "string":
        return _text(field, missing)
    if field.kind == "timestamp":
        is_event_time = field.pointer == contract.event_time_field
        if field.is_epoch:
            return _epoch(field.pointer, is_event_time)
        return _moment(field.pointer, missing, is_event_time)
    if field.kind == "date":
        return _day(field.pointer, missing)
    return _bounded(field, _KINDS[field.kind](field.pointer))


def _of_type(kind: type, pointer: str, take: Take) -> Take:
    mismatch = ("type_mismatch", pointer)

    def checked(value: Any, event: Event) -> None:
        if type(value) is kind:
            take(value, event)
        else:
            event.reasons.append(mismatch)

    return checked


def _text(field: Field, missing: Reason | None) -> Take:
    pointer, longest = field.pointer, field.max_length or sys.maxsize
    mismatch, too_long = ("type_mismatch", pointer), ("rule:max_length", pointer)
    form = re.compile(field.pattern).search if field.pattern else None
    formless = ("rule:pattern", pointer)
    if field.format == "uuid":
        form, formless = UUID.fullmatch, ("rule:format", pointer)
    allowed, unlisted = frozenset(field.values), ("rule:enum", pointer)

    def take(value: Any, event: Event) -> None:
        if type(value) is not str:
            event.reasons.append(mismatch)
            return
        text = clean_text(value)
        if text is None:
            if missing:
                event.reasons.append(missing)
            return
        event.values[pointer] = text
        if len(text) > longest:
            event.reasons.append(too_long)
        if form and not form(text):
            event.reasons.append(formless)
        if allowed and text not in allowed:
            event.reasons.append(unlisted)

    return take


def _epoch(pointer: str, is_event_time: bool) -> Take:
    mismatch, outside = ("type_mismatch", pointer), ("event_time_out_of_range", pointer)

    def take(value: Any, event: Event) -> None:
        if type(value) is not int or value not in EPOCH_MS:
            event.reasons.append(mismatch)
            return
        event.values[pointer] = since = value * 1000
        if is_event_time and not in_time(since, event.arrived_us):
            event.reasons.append(outside)

    return take


def _bounded(field: Field, take: Take) -> Take:
    """Numbers within the contract's bounds, of no more places than it allows."""
    low, high, places, pointer = field.minimum, field.maximum, field.places, field.pointer
    if low is None and high is None and places is None:
        return take

    def bounded(value: Any, event: Event) -> None:
        take(value, event)
        found = event.values.get(pointer)
        if found is None:
            return
        if low is not None and found < low:
            event.reasons.append(("rule:minimum", pointer))
        if high is not None and found > high:
            event.reasons.append(("rule:maximum", pointer))
        if places is not None and not fits(found, places):
            event.reasons.append(("rule:multiple_of", pointer))

    return bounded


def _moment(pointer: str, missing: Reason | None, is_event_time: bool) -> Take:
    mismatch, outside = ("type_mismatch", pointer), ("event_time_out_of_range", pointer)

    def take(value: Any, event: Event) -> None:
        since = instant(value) if type(value) is str else None
        if since is not None:
            event.values[pointer] = since
            if is_event_time and not in_time(since, event.arrived_us):
                event.reasons.append(outside)
        elif type(value) is not str or clean_text(value):
            event.reasons.append(mismatch)
        elif missing:
            event.reasons.append(missing)

    return take


def _day(pointer: str, missing: Reason | None) -> Take:
    mismatch = ("type_mismatch", pointer)

    def take(value: Any, event: Event) -> None:
        since = day(value) if type(value) is str else None
        if since is not None:
            event.values[pointer] = since
        elif type(value) is not str or clean_text(value):
            event.reasons.append(mismatch)
        elif missing:
            event.reasons.append(missing)

    return take


def _kept(kind: type, made: Callable[[Any], Any]) -> Callable[[str], Take]:
    def taker(pointer: str) -> Take:
        def take(value: Any, event: Event) -> None:
            event.values[pointer] = made(value)

        return _of_type(kind, pointer, take)

    return taker


def _integer(pointer: str) -> Take:
    mismatch = ("type_mismatch", pointer)

    def take(value: Any, event: Event) -> None:
        if type(value) is int and abs(value) <= _LARGEST_INTEGER:
            event.values[pointer] = value
        else:
            event.reasons.append(mismatch)

    return take


def _number(pointer: str) -> Take:
    mismatch = ("type_mismatch", pointer)

    def take(value: Any, event: Event) -> None:
        if type(value) is int or type(value) is Decimal:
            event.values[pointer] = Decimal(value)
        else:
            event.reasons.append(mismatch)

    return take


_KINDS: dict[str, Callable[[str], Take]] = {
    "boolean": _kept(bool, bool),
    "integer": _integer,
    "number": _number,
    "object": _kept(dict, to_json),
}
