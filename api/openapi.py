"""The parts of the OpenAPI document that FastAPI cannot see: the contract's body, credentials, refusals."""

from typing import Any

from api.events import MAX_KEY, contract
from api.models import ProblemModel
from api.problems import MEDIA_TYPE, TITLES
from schemas.contract import json_schema

_BODY_FIELDS = ("source", "payload", "context", "metadata")
INGEST_STATUSES = (400, 401, 403, 408, 413, 414, 415, 422, 429, 431, 501, 503)
_FURTHER_HEADERS = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}
_NOT_BLANK = r"\S"
CREDENTIALS: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": MAX_KEY, "pattern": "^[ -~]*$"},
    "description": "As the body's idempotency_key; when both are given they must be equal.",
}
SECURITY_SCHEMES = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "hw_<id>_<secret>"},
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}


def event_schema() -> dict[str, Any]:
    """The body of POST /ingest: the contract's fields that a client gives."""
    fields = json_schema(contract())["properties"]
    given = {name: fields[name] for name in _BODY_FIELDS}
    key = {"type": ["string", "null"], "maxLength": MAX_KEY, "description": "Names the submission."}
    return {
        "title": "LeadEvent",
        "type": "object",
        "description": "Where payload.consent is false, nothing else counts: the answer is `discarded`.",
        "required": ["source", "payload"],
        "properties": {**given, "idempotency_key": key},
        "additionalProperties": False,
    }


def _with_body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {media_type: {"schema": schema}}}
    return {"requestBody": body, "security": CREDENTIALS}


def _refusal(status: int) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/ProblemModel"}
    names = ("X-Request-Id", *_FURTHER_HEADERS.get(status, ()))
    headers = {name: {"required": True, "schema": {"type": "string"}} for name in names}
    content = {MEDIA_TYPE: {"schema": reference}}
    return {"description": TITLES[status], "headers": headers, "content": content}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses of a route that refuses so."""
    return {status: _refusal(status) for status in statuses}


REFUSALS = refusals(*INGEST_STATUSES)
EVENT = _with_body("application/json", event_schema()) | {"parameters": [_KEY_HEADER]}
BATCH = _with_body(
    "application/x-ndjson",
    {
        "type": "string",
        "pattern": _NOT_BLANK,
        "description": "One LeadEvent a line, at most 1,000 lines. The answer tells of each line.",
    },
)


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add the credentials and the problem's model to the generated document."""
    components = document.setdefault("components", {})
    components["securitySchemes"] = SECURITY_SCHEMES
    schema = ProblemModel.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = components.setdefault("schemas", {})
    schemas.update(schema.pop("$defs", {}))
    schemas["ProblemModel"] = schema
    return document
