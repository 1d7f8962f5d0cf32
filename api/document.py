"""Bytes → JSON value, strictly, with every fault that makes text unfit for the stores behind us.

UTF-8 only, no NaN or Infinity, no number beyond a double, at most 32 levels, no NUL character, no lone
surrogate. Of a repeated key the last one wins. Integers beyond 64 bits become doubles (RFC 8259 §6).
"""

import json
import math
from typing import Any

import orjson

from api.problems import Fault
from schemas.contract import MAX_DEPTH

MAX_FAULTS = 100
MAX_POINTER = 200
_LONGEST_DOUBLE = 309  # decimal digits of the largest finite double
_MESSAGES = {
    "empty": "is empty",
    "invalid_utf8": "is not UTF-8, or holds half of a surrogate pair",
    "malformed_json": "is not JSON",
    "too_deep": f"is nested deeper than {MAX_DEPTH} levels",
    "nul_character": "holds a NUL character",
    "type_mismatch": "is a number beyond the range of a double",
}


def fault(code: str, field: str = "") -> Fault:
    """A fault of the document itself."""
    return Fault(field, code, _MESSAGES[code])


def step(pointer: str, key: str | int) -> str:
    """The pointer one level down, cut at a length that fits an error list, printable as UTF-8."""
    escaped = str(key).replace("~", "~0").replace("/", "~1").replace("\0", "\ufffd")
    return f"{pointer}/{escaped}"[:MAX_POINTER].encode("utf-8", "replace").decode()


def decode(raw: bytes) -> tuple[Any, list[Fault]]:
    """The value and its faults. The value may be there with faults (so that consent can be read), or None."""
    if not raw.strip():
        return None, [fault("empty")]
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _second_look(raw)
    may_be_deep = raw.count(b"{") + raw.count(b"[") > MAX_DEPTH
    return value, _walk(value) if may_be_deep or b"\\u0000" in raw else []


def _second_look(raw: bytes) -> tuple[Any, list[Fault]]:
    """What exactly is wrong with a text that the fast parser refused."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None, [fault("invalid_utf8")]
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_integer)
    except RecursionError:
        return None, [fault("too_deep")]
    except ValueError:
        return None, [fault("malformed_json")]
    return value, _walk(value) or [fault("malformed_json")]


def _refuse_constant(_name: str) -> float:
    raise ValueError


def _integer(digits: str) -> float | int:
    return int(digits) if len(digits) <= _LONGEST_DOUBLE else math.inf


def _walk(root: object) -> list[Fault]:
    """Every string, key and number of the tree; at most MAX_FAULTS faults."""
    faults: list[Fault] = []
    stack: list[tuple[object, str, int]] = [(root, "", 1)]
    while stack and len(faults) < MAX_FAULTS:
        value, pointer, depth = stack.pop()
        if isinstance(value, str | float):
            code = _text_fault(value) if isinstance(value, str) else _number_fault(value)
            if code:
                faults.append(fault(code, pointer))
        elif isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                return [*faults, fault("too_deep")]
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, child in items:
                code = _text_fault(key) if isinstance(key, str) else None
                if code:
                    faults.append(fault(code, step(pointer, key)))
                stack.append((child, step(pointer, key), depth + 1))
    return faults[:MAX_FAULTS]


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "nul_character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "invalid_utf8"
    return None


def _number_fault(number: float) -> str | None:
    return None if math.isfinite(number) else "type_mismatch"
