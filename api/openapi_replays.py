"""What the OpenAPI document says of replays, where FastAPI cannot see it."""

from typing import Any

from api.json_patch import KINDS, POINTER
from api.openapi import CREDENTIALS, refusals
from api.openapi_letters import (
    DISCARD_REFUSALS,
    LIST_REFUSALS,
    ONE_REFUSALS,
    ORDER,
    query_parameter,
    with_body,
)
from api.replays import STATUSES
from schemas.patch import MAX_OPERATIONS

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
REQUEST_REFUSALS, REPLAYS_REFUSALS, REPLAY_REFUSALS = DISCARD_REFUSALS, LIST_REFUSALS, ONE_REFUSALS
APPLY_REFUSALS = ONE_REFUSALS | refusals(409)
_POINTER = {"type": "string", "pattern": f"^{POINTER}$"}
_MEMBERS: dict[str, dict[str, Any]] = {"value": {}, "from": _POINTER}


def _operation(kind: str) -> dict[str, Any]:
    more = {name: _MEMBERS[name] for name in KINDS[kind]}
    return {
        "type": "object",
        "required": ["op", "path", *more],
        "properties": {"op": {"const": kind}, "path": _POINTER} | more,
    }


PATCH_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_OPERATIONS,
    "items": {"oneOf": [_operation(kind) for kind in KINDS]},
    "description": "RFC 6902, applied to the payload of each letter; at most 32 KiB.",
}
REQUEST_SCHEMA = ORDER | {
    "title": "LettersToReplay",
    "properties": ORDER["properties"] | {"patch": PATCH_SCHEMA},
}
REQUEST = with_body(REQUEST_SCHEMA)
_CURSOR = {"type": "string", "pattern": r"^[0-9]{1,18}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
REPLAYS: dict[str, Any] = {
    "security": CREDENTIALS,
    "parameters": [
        query_parameter("status", {"type": "string", "enum": list(STATUSES)}, "Only those in this state."),
        query_parameter("cursor", _CURSOR, "The next_cursor of the page before."),
        query_parameter("limit", _LIMIT, "The most entries of an answer."),
    ],
}
REPLAY: dict[str, Any] = {
    "security": CREDENTIALS,
    "parameters": [
        {
            "name": "replay_id",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
            "description": "As the answer to its request has it. Another tenant's replay is not found.",
        }
    ],
}
