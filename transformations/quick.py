"""Documents in their usual form, read and checked by one C parser; for any other the exact reader decides.

A shortcut for speed, never another meaning: what it returns is what validate.reader returns for the same
bytes (tests/unit/test_verdict.py holds them against each other), and in any doubt it returns nothing.
"""

import re
import sys
from collections.abc import Callable
from decimal import Decimal
from operator import attrgetter
from typing import Any

import msgspec

from schemas.contract import ROW_LIMIT_BYTES, Contract, Field
from transformations.envelope import float_as_decimal, suspicious, to_json
from transformations.validate import UUID, in_time
from transformations.values import clean_text, instant

Values = dict[str, Any]
_TYPES: dict[str, Any] = {
    "string": str,
    "timestamp": str,
    "boolean": bool,
    "integer": int,
    "object": dict[str, Any],
}


def quick_reader(contract: Contract) -> Callable[[bytes, int], Values | None]:
    """A function (bytes, arrival in µs) → values by JSON Pointer of a document that has no fault and no
    unknown field, with None for fields that it leaves out; or None, which says nothing about it."""
    made = _struct(contract.stream, contract.fields)
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(made, float_hook=float_as_decimal)
    leaves = contract.leaves
    pointers = tuple(leaf.pointer for leaf in leaves)
    every = attrgetter(*[".".join(map(_attribute, leaf.path)) for leaf in leaves])
    steps = tuple(
        (n, _step(contract, leaf), leaf.required) for n, leaf in enumerate(leaves) if leaf.kind != "boolean"
    )

    def read(raw: bytes, arrived_us: int) -> Values | None:
        if len(raw) > ROW_LIMIT_BYTES or suspicious(raw):
            return None
        try:
            found = list(every(decoder.decode(raw)))
            for n, step, required in steps:
                value = found[n]
                if value is not None:
                    found[n] = step(value, arrived_us)
                elif required:  # a number that is null
                    return None
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
            return None
        return dict(zip(pointers, found, strict=True))

    return read


def _attribute(name: str) -> str:
    """A name of a document as one of Python: any text may be a key in JSON."""
    return "f_" + name.encode().hex()


def _struct(name: str, fields: tuple[Field, ...]) -> type:
    made = [(_attribute(field.name), *_typed(field)) for field in fields]
    names = {_attribute(field.name): field.name for field in fields}
    return msgspec.defstruct(
        re.sub(r"\W", "_", name), made, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False
    )


def _typed(field: Field) -> tuple[Any, ...]:
    if field.children:
        inner = _struct(field.name, field.children)
        optional = not field.required and not any(child.required for child in field.children)
        return (inner, msgspec.field(default_factory=inner)) if optional else (inner,)
    kind = _TYPES.get(field.kind, Any)
    return (kind,) if field.required else (kind | None, None)


def _step(contract: Contract, field: Field) -> Callable[[Any, int], Any]:
    """Clean one value, or raise ValueError: then the exact reader has something to say about it."""
    if field.kind == "object":
        return lambda value, _: to_json(value)
    if field.kind == "timestamp":
        return _event_time if field.pointer == contract.event_time_field else _moment
    if field.kind == "integer":
        return _integer
    return _number if field.kind == "number" else _text(field)


def _text(field: Field) -> Callable[[str, int], str | None]:
    longest, required = field.max_length or sys.maxsize, field.required
    form = re.compile(field.pattern).search if field.pattern else None
    if field.format == "uuid":
        form = UUID.fullmatch

    def cleaned(value: str, _arrived_us: int) -> str | None:
        text = clean_text(value)
        if text is None:
            if required:
                raise ValueError
        elif len(text) > longest or (form and not form(text)):
            raise ValueError
        return text

    return cleaned


def _moment(value: str, _arrived_us: int) -> int:
    since = instant(value)
    if since is None:
        raise ValueError
    return since


def _event_time(value: str, arrived_us: int) -> int:
    since = _moment(value, arrived_us)
    if not in_time(since, arrived_us):
        raise ValueError
    return since


def _integer(value: int, _arrived_us: int) -> int:
    if abs(value) > sys.maxsize:
        raise ValueError
    return value


def _number(value: Any, _arrived_us: int) -> Decimal:
    if type(value) is not int and type(value) is not Decimal:
        raise ValueError
    return Decimal(value)
