"""Refusals as RFC 9457 problem+json: never the refused value, never which part of a credential was wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "The request cannot be read",
    401: "A valid credential is needed",
    403: "The credential does not allow this",
    404: "There is nothing here",
    405: "This method is not allowed here",
    409: "The state of it does not allow this",
    408: "The body took too long to arrive",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body's type or encoding is not supported",
    422: "The content is not valid",
    429: "Too many requests",
    431: "The request's head is too large",
    500: "Something broke",
    501: "This way of sending is not supported",
    503: "Not available now",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `field` is a JSON Pointer into the body; `message` holds no value."""

    field: str
    code: str
    message: str

    def as_dict(self) -> dict[str, str]:
        return {"field": self.field, "code": self.code, "message": self.message}


class Problem(Exception):
    """A refusal that becomes a response; `headers` are added to it."""

    def __init__(
        self,
        status: int,
        code: str,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.errors = errors
        self.headers = headers


def document(problem: Problem, request_id: str) -> dict[str, Any]:
    """The problem's JSON members."""
    return {
        "type": f"urn:headwater:problem:{problem.code}",
        "title": TITLES.get(problem.status, "The request was refused"),
        "status": problem.status,
        "code": problem.code,
        "errors": [fault.as_dict() for fault in problem.errors],
        "request_id": request_id,
    }


def respond(problem: Problem, request_id: str) -> Response:
    """The response that carries the problem."""
    return Response(
        orjson.dumps(document(problem, request_id)),
        status_code=problem.status,
        headers=dict(problem.headers or {}),
        media_type=MEDIA_TYPE,
    )


def unavailable(code: str, retry_after_s: int) -> Problem:
    """503 with Retry-After."""
    return Problem(503, code, headers={"Retry-After": str(retry_after_s)})
