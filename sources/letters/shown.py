"""Dead letters as people and programs are shown them."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

from schemas.contract import contracts
from schemas.masked import masked
from sources.letters.one import Found


def listed(letter: dict[str, Any]) -> dict[str, Any]:
    """A letter without payload and headers; times as text."""
    found = {name: value for name, value in letter.items() if name not in ("payload", "headers")}
    return told(found | {"reasons": letter["reasons"] or []})


def told(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose times are ISO 8601 with microseconds, so that they find the same again."""
    return {name: _iso(value) if isinstance(value, datetime) else value for name, value in record.items()}


def whole(found: Found, personal: bool) -> dict[str, Any]:
    """All of a letter; payload and the headers' values only where what is `personal` may be seen."""
    letter = found.letter
    return listed(letter) | {
        "headers": [header(one, personal) for one in letter["headers"] or []],
        "payload": payload(letter, personal),
        "same_fingerprint": found.same_fingerprint,
        "replays": [listed(replay) for replay in found.replays],
    }


def payload(letter: dict[str, Any], personal: bool) -> dict[str, Any] | None:
    """The payload as base64, or masked; None where the letter holds none."""
    raw: bytes | None = letter["payload"]
    if raw is None:
        return None
    if not personal:
        return {"masked": True, **masked(raw, contracts().get(letter["stream"] or ""))}
    text = base64.b64encode(raw).decode()
    return {"masked": False, "size": len(raw), "sha256": hashlib.sha256(raw).hexdigest(), "base64": text}


def header(one: dict[str, Any], personal: bool) -> dict[str, Any]:
    """A header's name and its value as base64, or how long that is."""
    value: bytes | None = one["value"]
    shown = {"value": base64.b64encode(value).decode()} if personal and value is not None else {}
    return {"name": one["key"], "size": None if value is None else len(value)} | shown


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
