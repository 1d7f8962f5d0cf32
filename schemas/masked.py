"""A payload for eyes that may not see persons: its structure, and of its values those that the contract knows
and does not call personal. Pure.
"""

import hashlib
import re
from typing import Any

import orjson

from schemas.contract import MAX_DEPTH, Contract, Field

# A key is shown where it looks like a name that a program gave: a key may be an e-mail address.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_Fields = tuple[Field, ...]


def masked(payload: bytes, contract: Contract | None) -> dict[str, Any]:
    """`size` in bytes, `sha256`, and `json`: the payload with what is personal or unknown replaced by its
    type and length, such as text(12).

    Without `json` where the payload is none: Avro, cut, invalid. Without a contract every field is unknown.
    """
    found: dict[str, Any] = {"size": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
    if contract and contract.format != "json":
        return found
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return found
    fields = contract.fields if contract else ()
    return found | {"json": _object(value, fields, 1) if isinstance(value, dict) else _unknown(value, 1)}


def _object(value: dict[str, Any], fields: _Fields, depth: int) -> dict[str, Any]:
    known = {field.name: field for field in fields}
    found: dict[str, Any] = {}
    for key, child in value.items():
        name = key if key in known or _NAME.fullmatch(key) else _free(f"key({len(key)})", found)
        found[name] = _known(child, known[key], depth) if key in known else _unknown(child, depth)
    return found


def _known(value: Any, field: Field, depth: int) -> Any:
    if field.personal:
        return _unknown(value, depth)
    if isinstance(value, dict) and field.children:
        return _object(value, field.children, depth + 1)
    # An object that a contract does not look into, or a list where none belongs, holds what nobody knows.
    return _unknown(value, depth) if isinstance(value, dict | list) else value


def _unknown(value: Any, depth: int) -> Any:
    """The value's type, and its length where it has one; of what holds others, theirs."""
    if isinstance(value, dict | list) and depth > MAX_DEPTH:
        return f"{'object' if isinstance(value, dict) else 'list'}({len(value)})"
    if isinstance(value, dict):
        return _object(value, (), depth + 1)
    if isinstance(value, list):
        return [_unknown(child, depth + 1) for child in value]
    if value is None:
        return None
    if isinstance(value, str):
        return f"text({len(value)})"
    return "boolean" if isinstance(value, bool) else "number"


def _free(name: str, taken: dict[str, Any]) -> str:
    """The name, or with a number behind it: keys of one length stay apart."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}#{number}"
    return found
