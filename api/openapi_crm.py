"""What the OpenAPI document says of the CRM's control, where FastAPI cannot see it."""

from typing import Any

from api.crm_job import MAX_DELAY_MS, MAX_OFFSET, REQUIRED, topics
from api.openapi import CREDENTIALS, refusals

_HEAD = {400, 401, 403, 414, 422, 429, 431, 501, 503}  # what any request may meet
CONTROL_REFUSALS = refusals(*sorted(_HEAD))
ENQUEUE_REFUSALS = refusals(*sorted(_HEAD | {404, 408, 413, 415}))
CONTROL: dict[str, Any] = {"security": CREDENTIALS}


def _number(most: int, description: str) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": most, "description": description}


JOB_SCHEMA: dict[str, Any] = {
    "title": "RecordToSendAgain",
    "type": "object",
    "required": list(REQUIRED),
    "properties": {
        "topic": {"type": "string", "enum": sorted(topics())},
        "partition": _number(max(topics().values()) - 1, "Of the topic."),
        "offset": _number(MAX_OFFSET, "Of the record, which the log must have as the caller's tenant's."),
        "delay": _number(MAX_DELAY_MS, "Milliseconds to wait before it is sent.") | {"default": 0},
    },
    "additionalProperties": False,
}
ENQUEUE = CONTROL | {
    "requestBody": {"required": True, "content": {"application/json": {"schema": JOB_SCHEMA}}}
}
