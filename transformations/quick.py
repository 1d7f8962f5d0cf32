"""Documents in their usual form, read by a C parser and cleaned by column; the exact reader has the others.

A shortcut for speed, never another meaning: what it takes is what validate.reader returns for the same bytes
(tests/unit/test_verdict.py and test_classify.py hold them against each other); in any doubt it says so.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from itertools import filterfalse
from operator import eq
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from headwater.decimals import fits
from schemas.contract import MAX_DEPTH, ROW_LIMIT_BYTES, Contract, Field
from schemas.envelope import LARGEST_DOUBLE, LONGEST_NUMBER, to_json
from transformations.validate import EPOCH_MS, UUID, in_time
from transformations.values import clean_text, day, each, instants

Columns = dict[str, list[Any]]
# (a column as the parser gave it, arrivals in µs, rows in doubt, which it adds to) → the column cleaned
_Step = Callable[[list[Any], Sequence[int], set[int]], list[Any]]
# of each field: its pointer, its children
_Parts = tuple[tuple[str, "_Parts"], ...]
_Form = Callable[[str], re.Match[str] | None]
_DOUBT: Any = object()
_BRACKET, _BACKSLASH = b"[\\"
_LONG_NUMBER = re.compile(rf"[0-9]{{{LONGEST_NUMBER}}}", re.ASCII)
_TYPES: dict[str, Any] = {
    "string": str,
    "timestamp": str,
    "date": str,
    "boolean": bool,
    "integer": int,
    "object": dict[str, Any],
}


class Taken(NamedTuple):
    """Values by JSON Pointer, one of each record and None where nothing was said; in the rows `doubtful` they
    mean nothing."""

    columns: Columns
    doubtful: set[int]


def quick_reader(contract: Contract) -> Callable[[Sequence[bytes | None], Sequence[int]], Taken]:
    """A function (records, their arrivals in µs) → what those say that have no fault and no unknown field; of
    a stream that is not of JSON all are doubtful."""
    if contract.format != "json":
        return partial(_all_doubtful, [leaf.pointer for leaf in contract.leaves])
    kind = _struct(contract.stream, contract.fields)
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind, float_hook=Decimal)
    decode, nothing, parts = decoder.decode, _nothing(kind), _parts(contract.fields)
    steps = [(leaf.pointer, _step(contract, leaf)) for leaf in contract.leaves]
    again = contract.tenant_again

    def decoded(raw: bytes | None) -> Any:
        if not raw or len(raw) > ROW_LIMIT_BYTES or _hides_something(raw):
            return nothing
        try:
            return decode(raw)
        except (msgspec.DecodeError, ArithmeticError, ValueError, RecursionError):
            return nothing

    def read(records: Sequence[bytes | None], arrived_us: Sequence[int]) -> Taken:
        documents = [decoded(raw) for raw in records]
        doubtful = {n for n, found in enumerate(documents) if found is nothing}
        said = dict(_columns(parts, documents))
        columns = {pointer: step(said.get(pointer, []), arrived_us, doubtful) for pointer, step in steps}
        if again:
            named = zip(columns[contract.tenant_field], columns[again], strict=True)
            doubtful.update([n for n, (own, other) in enumerate(named) if other is not None and other != own])
        return Taken(columns, doubtful)

    return read


def _all_doubtful(
    pointers: Sequence[str], records: Sequence[bytes | None], _arrived_us: Sequence[int]
) -> Taken:
    return Taken({pointer: [None] * len(records) for pointer in pointers}, set(range(len(records))))


def _parts(fields: tuple[Field, ...]) -> _Parts:
    return tuple((field.pointer, _parts(field.children)) for field in fields)


def _columns(parts: _Parts, holders: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    """JSON Pointer and values of every leaf; nothing of no holders."""
    for (pointer, inner), values in zip(parts, zip(*map(astuple, holders), strict=True), strict=False):
        if inner:
            yield from _columns(inner, values)
        else:
            yield pointer, list(values)


def _hides_something(raw: bytes) -> bool:
    """Whether there may be what the parser takes and a repeated key may hide: more levels than are allowed,
    or U+0000."""
    # A byte as a number is found at once; as text it would first fail to be one.
    brackets = raw.count(b"{") + (raw.count(b"[") if _BRACKET in raw else 0)
    return brackets > MAX_DEPTH or (_BACKSLASH in raw and raw.find(b"\\u0000") >= 0)


def _attribute(name: str) -> str:
    """A name of a document as one of Python: any text may be a key in JSON."""
    return "f_" + name.encode().hex()


def _struct(name: str, fields: tuple[Field, ...]) -> type:
    made = [(_attribute(field.name), *_typed(field)) for field in fields]
    names = {_attribute(field.name): field.name for field in fields}
    return msgspec.defstruct(
        re.sub(r"\W", "_", name), made, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False
    )


def _nothing(kind: type) -> Any:
    """A document that says nothing, not even what is required."""
    inner = {part.name: part.type for part in msgspec.structs.fields(kind)}
    return kind(
        **{
            name: _nothing(found) if isinstance(found, type) and issubclass(found, msgspec.Struct) else None
            for name, found in inner.items()
        }
    )


def _typed(field: Field) -> tuple[Any, ...]:
    if field.children:
        inner = _struct(field.name, field.children)
        optional = not field.required and not any(child.required for child in field.children)
        return (inner, msgspec.field(default_factory=inner)) if optional else (inner,)
    kind = int if field.is_epoch else _TYPES.get(field.kind, Any)
    return (kind,) if field.required else (kind | None, None)


def _step(contract: Contract, field: Field) -> _Step:
    if field.kind == "timestamp":
        is_event_time = field.pointer == contract.event_time_field
        if field.is_epoch:
            return _event_epochs if is_event_time else _epochs
        return _event_times if is_event_time else _moments
    if field.kind == "date":
        return _days
    if field.kind == "string":
        longest, form = field.max_length or sys.maxsize, _form(field)
        return _texts(longest, form, _text(field.required, longest, form))
    if field.kind == "boolean":
        return lambda said, _arrived_us, _doubtful: said
    fit = _bounded(field, _FITS[field.kind])
    absent = _DOUBT if field.required else None
    return lambda said, _arrived_us, doubtful: _marked(
        [absent if value is None else fit(value) for value in said], doubtful
    )


def _marked(made: list[Any], doubtful: set[int]) -> list[Any]:
    doubtful.update([n for n, value in enumerate(made) if value is _DOUBT])
    return made


def _texts(longest: int, form: _Form | None, fit: Callable[[str], Any]) -> _Step:
    def clean(said: list[Any], _arrived_us: Sequence[int], doubtful: set[int]) -> list[Any]:
        texts = set(said)
        texts.discard(None)
        if not _are_clean(texts, longest):
            return _marked(each(fit, said), doubtful)
        # Of clean texts only the form is left to ask for.
        if form and (odd := set(filterfalse(form, texts))):
            return _marked([_DOUBT if text in odd else text for text in said], doubtful)
        return said

    return clean


def _form(field: Field) -> _Form | None:
    if field.values:
        return re.compile("|".join(map(re.escape, field.values))).fullmatch
    if field.format == "uuid":
        return UUID.fullmatch
    return re.compile(field.pattern).search if field.pattern else None


def _are_clean(texts: set[str], longest: int) -> bool:
    """Whether these texts are what they would be cleaned to, and short enough: few calls for many texts."""
    return (
        "" not in texts
        and "".join(texts).isascii()
        and all(map(eq, texts, map(str.strip, texts)))
        and max(map(len, texts), default=0) <= longest
    )


def _text(required: bool, longest: int, form: _Form | None) -> Callable[[str], Any]:
    absent = _DOUBT if required else None

    def fit(said: str) -> Any:
        text = clean_text(said)
        if text is None:
            return absent
        return _DOUBT if len(text) > longest or (form and not form(text)) else text

    return fit


def _moments(said: list[Any], _arrived_us: Sequence[int], doubtful: set[int]) -> list[Any]:
    pairs = zip(said, instants(said), strict=True)
    made = [_DOUBT if since is None and text is not None else since for text, since in pairs]
    return _marked(made, doubtful)


def _days(said: list[Any], _arrived_us: Sequence[int], doubtful: set[int]) -> list[Any]:
    made = each(day, said)
    return _marked(
        [_DOUBT if text is not None and d is None else d for text, d in zip(said, made, strict=True)],
        doubtful,
    )


def _event_times(said: list[Any], arrived_us: Sequence[int], doubtful: set[int]) -> list[Any]:
    pairs = zip(instants(said), arrived_us, strict=True)
    return _marked([since if since and in_time(since, at) else _DOUBT for since, at in pairs], doubtful)


def _epochs(said: list[Any], _arrived_us: Sequence[int], doubtful: set[int]) -> list[Any]:
    return _marked([value if value is None else _micros(value) for value in said], doubtful)


def _event_epochs(said: list[Any], arrived_us: Sequence[int], doubtful: set[int]) -> list[Any]:
    made = [None if value is None else value * 1000 for value in said]
    pairs = zip(made, arrived_us, strict=True)
    return _marked(
        [_DOUBT if since is None or not in_time(since, at) else since for since, at in pairs], doubtful
    )


def _micros(milliseconds: int) -> Any:
    return milliseconds * 1000 if milliseconds in EPOCH_MS else _DOUBT


def _bounded(field: Field, fit: Callable[[Any], Any]) -> Callable[[Any], Any]:
    low, high, places = field.minimum, field.maximum, field.places
    if low is None and high is None and places is None:
        return fit

    def bounded(value: Any) -> Any:
        found = fit(value)
        outside = found is _DOUBT or (low is not None and found < low) or (high is not None and found > high)
        return _DOUBT if outside or not (places is None or fits(found, places)) else found

    return bounded


def _json(value: dict[str, Any]) -> Any:
    """Its text, unless that may hold a number beyond a double."""
    text = to_json(value)
    long = len(text) >= LONGEST_NUMBER and _LONG_NUMBER.search(text)
    return _DOUBT if long or "E+" in text else text


def _integer(value: int) -> Any:
    return value if abs(value) <= sys.maxsize else _DOUBT


def _number(value: Any) -> Any:
    fit = type(value) in (int, Decimal) and abs(value) <= LARGEST_DOUBLE
    return Decimal(value) if fit else _DOUBT


_FITS: dict[str, Callable[[Any], Any]] = {"object": _json, "integer": _integer, "number": _number}
