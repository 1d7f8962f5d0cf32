"""What the OpenAPI document says of dead letters, where FastAPI cannot see it."""

from typing import Any

from api.letters_body import MAX_IDS, MAX_WHY
from api.letters_query import CURSOR, DEFAULT_LIMIT, GROUPINGS, ID, MAX_LIMIT, MAX_TEXT
from api.openapi import CREDENTIALS, refusals
from sources.letters.wanted import STATUSES

_HEAD = {400, 401, 403, 414, 422, 429, 431, 501, 503}  # what any request may meet
LIST_REFUSALS = refusals(*sorted(_HEAD))
ONE_REFUSALS = refusals(*sorted(_HEAD | {404}))
DISCARD_REFUSALS = refusals(*sorted(_HEAD | {408, 409, 413, 415}))
_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_DIGEST = {"type": "string", "pattern": f"^{ID}$"}
_TIME = {"type": "string", "format": "date-time"}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
_FILTER: dict[str, tuple[dict[str, Any], str]] = {
    "stream": (_TEXT, "Only of this stream."),
    "stage": (_TEXT, "Only of this stage: api, decode, validate, import, sink:<name>."),
    "reason": (_TEXT, "Only with this code among their reasons."),
    "fingerprint": (_DIGEST, "Only equal ones."),
    "contract_version": (_TEXT, "Only those that this version refused."),
    "status": ({"type": "string", "enum": list(STATUSES)}, "Only those in this state."),
    "since": (_TIME, "Only what failed then or later."),
    "until": (_TIME, "Only what failed before then."),
}
_BY = {"type": "array", "items": {"type": "string", "enum": list(GROUPINGS)}, "minItems": 1}


def query_parameter(name: str, schema: dict[str, Any], says: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": says} | more


def with_body(schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {"security": CREDENTIALS, "requestBody": {"required": True, "content": content}}


_ASKED = [query_parameter(name, schema, says) for name, (schema, says) in _FILTER.items()]
_MOST = query_parameter("limit", _LIMIT, "The most entries of an answer.")
_CURSOR = {"type": "string", "pattern": f"^{CURSOR}$"}
LETTERS: dict[str, Any] = {
    "security": CREDENTIALS,
    "parameters": [*_ASKED, query_parameter("cursor", _CURSOR, "The next_cursor of the page before."), _MOST],
}
STATS: dict[str, Any] = {
    "security": CREDENTIALS,
    "parameters": [
        *_ASKED,
        query_parameter(
            "by",
            _BY | {"uniqueItems": True, "default": ["stream", "reason"]},
            "What letters of a group have in common. By reason a letter counts once for each of its codes.",
            style="form",
            explode=False,
        ),
        _MOST,
    ],
}
LETTER: dict[str, Any] = {
    "security": CREDENTIALS,
    "parameters": [
        {
            "name": "dead_letter_id",
            "in": "path",
            "required": True,
            "schema": _DIGEST,
            "description": "As the list has it. Another tenant's letter is not found.",
        }
    ],
}
ORDER: dict[str, Any] = {
    "type": "object",
    "required": ["why"],
    "properties": {
        "ids": {"type": "array", "items": _DIGEST, "minItems": 1, "maxItems": MAX_IDS},
        "filter": {
            "type": "object",
            "properties": {name: schema | {"description": says} for name, (schema, says) in _FILTER.items()},
            "minProperties": 1,
            "additionalProperties": False,
        },
        "why": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_WHY,
            "pattern": r"\S",
            "description": "For the audit trail: no personal data.",
        },
    },
    "oneOf": [{"required": ["ids"]}, {"required": ["filter"]}],
    "additionalProperties": False,
}
ORDER_SCHEMA = ORDER | {"title": "LettersToDiscard"}
DISCARD = with_body(ORDER_SCHEMA)
