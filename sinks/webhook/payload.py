"""A lead's row → the signed body of a request, as the connector's mapping has it."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from headwater.errors import SetupError
from headwater.settings import Constant
from sinks.postgres import LEAD_COLUMNS

COLUMNS = (*LEAD_COLUMNS, "created_at", "updated_at")
Rules = Mapping[str, str | Constant]


def check_mapping(connector: str, rules: Rules) -> None:
    """Raise SetupError naming columns that leads does not have, and fields that are inside of others."""
    unknown = sorted({rule for rule in rules.values() if isinstance(rule, str)} - set(COLUMNS))
    if unknown:
        raise SetupError(f"connectors.{connector}.mapping: leads has no column {', '.join(unknown)}")
    for field in rules:
        steps = field.split(".")
        parents = {".".join(steps[:depth]) for depth in range(1, len(steps))}
        if parents & rules.keys() or not all(steps):
            raise SetupError(f"connectors.{connector}.mapping: {field!r} is empty or inside of another field")


def body(rules: Rules, row: Mapping[str, Any]) -> bytes:
    """The JSON document. Columns that are null are left out: what a receiver has of them stays."""
    document: dict[str, Any] = {}
    for field, rule in rules.items():
        value = rule.constant if isinstance(rule, Constant) else row[rule]
        if value is None:
            continue
        *parents, name = field.split(".")
        at = document
        for parent in parents:
            at = at.setdefault(parent, {})
        at[name] = value
    # Not orjson: metadata may hold integers of any size.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def signature(secret: str, timestamp: int, content: bytes) -> str:
    """`v1=` and the hex HMAC-SHA256 of "timestamp.body"; the timestamp is in seconds since 1970."""
    signed = f"{timestamp}.".encode() + content
    return "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def headers(connector: str, event_id: str, secret: str, timestamp: int, content: bytes) -> dict[str, str]:
    """What a receiver checks: the same key on every attempt, a new timestamp and signature on each."""
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": f"{connector}:{event_id}",
        "X-Headwater-Timestamp": str(timestamp),
        "X-Headwater-Signature": signature(secret, timestamp, content),
    }
