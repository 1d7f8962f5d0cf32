"""What the OpenAPI document says of uploads and their jobs, where FastAPI cannot see it."""

from typing import Any

from api.form import FORM
from api.openapi import CREDENTIALS, refusals
from api.query import DEFAULT_LIMIT, ENCODING, MARKS, MAX_ID, MAX_LIMIT, MAX_NAME
from sources.import_jobs import DATASET, STATUSES

_HEAD = (400, 401, 403, 404, 414, 422, 429, 431, 501, 503)  # what any request may meet
UPLOAD_REFUSALS = refusals(*sorted({*_HEAD, 408, 413, 415} - {404}))
LIST_REFUSALS = refusals(*sorted({*_HEAD} - {404}))
JOB_REFUSALS = refusals(*_HEAD)
CANCEL_REFUSALS = refusals(*sorted({*_HEAD, 409}))
_TEXT: dict[str, Any] = {"type": "string"}
_FLAG = {"type": "string", "enum": ["true", "false"]}


def _query(name: str, schema: dict[str, Any], description: str, required: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "schema": schema,
        "description": description,
    }


def _secured(*parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"parameters": list(parameters), "security": CREDENTIALS} | more


_JOB_ID = {
    "name": "job_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
    "description": "As POST /upload answered. Another tenant's job is not found.",
}
_LIMIT = _query(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    "The most entries of a page.",
)
_CURSOR_OF_JOBS = {
    "type": "string",
    "pattern": r"^[0-9]{1,18}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
}
_CURSOR_OF_ROWS = {"type": "integer", "minimum": 0, "maximum": MAX_ID}
_CURSOR_SAYS = "The next_cursor of the page before."
_FILE = {"type": "string", "format": "binary"}
_FORM_SCHEMA = {"type": "object", "required": ["file"], "properties": {"file": _FILE}}
_ENCODING = {"type": "string", "pattern": f"^{ENCODING}$"}
UPLOAD = _secured(
    _query("dataset", {"type": "string", "pattern": f"^{DATASET}$"}, "What the rows are.", required=True),
    _query("force", _FLAG, "true: import it again, even if the same file was imported before."),
    _query("name", {"type": "string", "maxLength": MAX_NAME}, "What the file is called, for people."),
    _query(
        "encoding",
        _ENCODING,
        "Of its text, if it is neither UTF-8 nor marked as UTF-16.",
    ),
    _query("delimiter", {"type": "string", "enum": list(MARKS)}, "Of CSV; else it is found."),
    _query("quote", {"type": "string", "enum": list(MARKS)}, "Of CSV; else it is found."),
    _query("header", _FLAG, "Whether the first line of CSV names the columns; else it is found."),
    requestBody={
        "required": True,
        "description": "One file: CSV, JSON, NDJSON, Parquet, or gzip or zip of text; as it is or in a form.",
        "content": {"application/octet-stream": {"schema": _FILE}, FORM: {"schema": _FORM_SCHEMA}},
    },
)
JOBS = _secured(
    _query("status", {"type": "string", "enum": list(STATUSES)}, "Only jobs in this state."),
    _query("cursor", _CURSOR_OF_JOBS, _CURSOR_SAYS),
    _LIMIT,
)
JOB = _secured(_JOB_ID)
ERRORS = _secured(
    _JOB_ID,
    _query("cursor", _CURSOR_OF_ROWS, _CURSOR_SAYS),
    _LIMIT,
    _query("format", {"type": "string", "enum": ["json", "csv"]}, "Wins over Accept."),
)
CSV = {
    "description": "Refused rows. As CSV: all behind the cursor unless a limit is given; a cell that a "
    "spreadsheet would compute begins with an apostrophe.",
    "content": {"text/csv": {"schema": _TEXT}},
}
_EVENT = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"enum": ["progress", "end"]}, "data": _TEXT},
}
EVENTS = _secured(
    _JOB_ID,
    responses={
        "200": {
            "description": "Events `progress` and, when the job is over, `end`; the data is the job as JSON.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        }
    },
)
