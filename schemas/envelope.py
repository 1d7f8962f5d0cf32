"""Bytes → a JSON document, or the one reason why there is none: of bronze, and of uploaded files.

The usual record is read once, by a strict parser in C that keeps decimals exact. Only what that parser
refuses, or a cheap test finds suspicious, gets the second look that says what exactly is wrong.
"""

import json
import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from schemas.contract import MAX_DEPTH, ROW_LIMIT_BYTES

LARGEST_DOUBLE = Decimal(float.fromhex("0x1.fffffffffffffp+1023"))
_DIGITS = b"0123456789"
LONGEST_NUMBER = 309  # decimal digits of the largest double
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class Document(NamedTuple):
    """`fault` is a reason code or None. With a fault, `value` is what could be read all the same, or None."""

    value: Any
    fault: str | None


def read_document(raw: bytes | None) -> Document:
    """A JSON object of at most 1 MiB and 32 levels, UTF-8, free of NUL, of half surrogate pairs and of
    numbers beyond a double; of a repeated key the last one wins. Of several faults the first is told:
    empty, too_large, invalid_utf8, too_deep, malformed_json, type_mismatch (no object), nul_character,
    invalid_utf8 (half a pair), type_mismatch (a number).
    """
    if not raw:
        return Document(None, "empty")
    if len(raw) > ROW_LIMIT_BYTES:
        return Document(_whatever_can_be_read(raw), "too_large")
    try:
        value = _DECODER.decode(raw)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        return _second_look(raw)
    if _suspicious(raw):
        return _second_look(raw, value)
    return Document(value, None if type(value) is dict else "type_mismatch")


def _suspicious(raw: bytes) -> bool:
    """Whether text that the quick parser takes may still hold a fault: it gets the second look."""
    deep = raw.count(b"[") + raw.count(b"{") > MAX_DEPTH
    long_number = len(raw) - len(raw.translate(None, _DIGITS)) >= LONGEST_NUMBER
    return deep or long_number or b"\\u0000" in raw


def _second_look(raw: bytes, value: Any = None) -> Document:
    """The same for any text, slowly; `value` is what the quick parser has read, if it could."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return Document(_whatever_can_be_read(raw), "invalid_utf8")
    if deeper_than(raw, MAX_DEPTH):
        return Document(_whatever_can_be_read(raw), "too_deep")
    if not raw.strip():
        return Document(None, "empty")
    try:
        parsed = json.loads(
            text, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_decimal_or_infinite
        )
    except ValueError:
        return Document(None, "malformed_json")
    return Document(parsed if value is None else value, _fault_inside(parsed))


def _fault_inside(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "type_mismatch"
    found = _faults_of_leaves(value)
    order = ("nul_character", "invalid_utf8", "type_mismatch")
    return next((code for code in order if code in found), None)


def _faults_of_leaves(root: Any) -> set[str]:
    found: set[str] = set()
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, float) and math.isinf(value):
            found.add("type_mismatch")
        elif isinstance(value, str):
            if "\0" in value:
                found.add("nul_character")
            if any("\ud800" <= character <= "\udfff" for character in value):
                found.add("invalid_utf8")
    return found


def deeper_than(raw: bytes, depth: int) -> bool:
    """Whether arrays and objects nest more than `depth` levels, whatever else is wrong with the text."""
    level = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", raw)):
        level += 1 if bracket in b"[{" else -1
        if level > depth:
            return True
    return False


def to_json(value: Any) -> str:
    """Compact JSON text in which numbers keep every digit."""
    return _ENCODER.encode(value).decode()


def float_as_decimal(text: str) -> Decimal:
    """A JSON number with every digit. OverflowError for one beyond a double."""
    try:
        number = Decimal(text)
    except InvalidOperation:  # an exponent of twenty digits
        mantissa, _, exponent = text.lower().partition("e")
        if exponent.startswith("-") or not mantissa.strip("-0."):
            return Decimal(0)
        raise OverflowError from None
    if abs(number) > LARGEST_DOUBLE:
        raise OverflowError
    return number


def _decimal_or_infinite(text: str) -> Decimal | float:
    try:
        return float_as_decimal(text)
    except OverflowError:
        return math.inf


def _integer(digits: str) -> float | int:
    """Beyond 309 digits infinite: Python refuses to convert what is much longer."""
    number = int(digits) if len(digits) <= LONGEST_NUMBER + 1 else math.inf
    return math.copysign(math.inf, number) if abs(number) > LARGEST_DOUBLE else number


def _refuse_constant(_name: str) -> float:
    raise ValueError


def _whatever_can_be_read(raw: bytes) -> Any:
    """The document in spite of its fault, so that a refusal of consent in it is honoured; else None."""
    try:
        return json.loads(raw.decode("utf-8", "replace"), strict=False, parse_int=_integer)
    except (ValueError, RecursionError):
        return None


_DECODER = msgspec.json.Decoder(float_hook=float_as_decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")
