"""The parts of the OpenAPI document that FastAPI cannot see: the contract's body, credentials, refusals."""

from typing import Any

from api.events import MAX_KEY, contract
from api.models import ProblemModel
from api.problems import MEDIA_TYPE, TITLES
from schemas.contract import json_schema

_BODY_FIELDS = ("source", "payload", "context", "metadata")
_STATUSES = (400, 401, 403, 408, 413, 415, 422, 429, 503)
_CREDENTIALS: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
_KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": MAX_KEY},
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
        "required": ["source", "payload"],
        "properties": {**given, "idempotency_key": key},
        "additionalProperties": False,
    }


def _with_body(media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {media_type: {"schema": schema}}}
    return {"requestBody": body, "security": _CREDENTIALS}


def _refusal(status: int) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/ProblemModel"}
    return {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": reference}}}


REFUSALS: dict[int | str, dict[str, Any]] = {status: _refusal(status) for status in _STATUSES}
EVENT = _with_body("application/json", event_schema()) | {"parameters": [_KEY_HEADER]}
BATCH = _with_body(
    "application/x-ndjson", {"type": "string", "description": "One LeadEvent a line, at most 1,000 lines."}
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
