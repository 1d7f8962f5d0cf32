"""What an answer of Marketo means: a document, or one of our faults.

Faults of its REST API come with status 200, `success: false` and a code (Marketo's documentation, "Error
Codes"). Its messages may quote what was asked for, so no text of an answer is raised or logged.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from headwater.errors import HeadwaterError, SetupError, TransientError

Document = dict[str, Any]
_PASSING_STATUS = {408, 425, 429}
# Time-outs, limits of 20 s and of concurrency, and what its documentation calls temporary.
_PASSING = {"500", "502", "503", "504", "604", "606", "608", "611", "614", "615", "713", "719"}
_EXPIRED, _INVALID, _QUOTA = "602", "601", "607"
_DENIED = {"600", "603"}
_FIELD = "1006"
# Wrong value of a parameter. Which code says that a paging token is not valid is not documented.
_PARAMETER = {"1001", "1003"}
_PAGING = re.compile(r"(paging|page) ?token", re.IGNORECASE)


class StaleTokenError(HeadwaterError):
    """The access token has expired, or (`expired` false) Marketo does not know it."""

    def __init__(self, *, expired: bool) -> None:
        super().__init__("Marketo does not take the access token")
        self.expired = expired


class QuotaError(HeadwaterError):
    """The calls of the day are used up: not worth a retry before midnight, US Central time."""


class RefusedParameterError(SetupError):
    """A parameter has a value that is not valid; of a page's call that is the paging token."""


class TooLargeError(SetupError):
    """The answer is larger than we read."""


@dataclass(frozen=True)
class Answer:
    """A status with what came, or why nothing did: timeout, connection, protocol, too_large."""

    status: int = 0
    body: bytes = b""
    error: str | None = None


@dataclass(frozen=True)
class Judged:
    """A document or a fault, and its name in metrics."""

    outcome: str
    document: Document
    fault: HeadwaterError | None = None


def judge(call: str, answer: Answer) -> Judged:
    """Of a call of the REST API. The document has `success: true`."""
    if answer.error or answer.status != 200:
        return _without_document(call, answer)
    document = _read(answer.body)
    if document is None or not isinstance(document.get("success"), bool):
        return _unreadable(call)
    if document["success"]:
        return Judged("ok", document)
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    code, message = str(first.get("code", "")), str(first.get("message", ""))
    known = code if re.fullmatch(r"\d{3,4}", code, re.ASCII) else "unknown"
    return Judged(known, {}, _fault(call, known, message))


def judge_login(answer: Answer) -> Judged:
    """Of a call for an access token. The document has `access_token` (text) and `expires_in` (seconds)."""
    if answer.status in (400, 401, 403):
        refused = SetupError(
            "Marketo refuses the login; check marketo.client_id and marketo.client_secret"
            f" (status {answer.status})"
        )
        return Judged(f"http_{answer.status}", {}, refused)
    if answer.error or answer.status != 200:
        return _without_document("login", answer)
    document = _read(answer.body) or {}
    token, life = document.get("access_token"), document.get("expires_in")
    # A token goes into a header.
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token) or not isinstance(life, int):
        return _unreadable("login")
    return Judged("ok", document)


def unreadable(call: str) -> TransientError:
    """What is raised where an answer has not the shape that it must have."""
    return TransientError(f"Marketo {call}: the answer cannot be read")


def _read(body: bytes) -> Document | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unreadable(call: str) -> Judged:
    return Judged("unreadable", {}, unreadable(call))


def _without_document(call: str, answer: Answer) -> Judged:
    status = answer.status
    if answer.error == "too_large":
        told = f"Marketo {call}: the answer is larger than we read; ask for fewer marketo.fields"
        return Judged("too_large", {}, TooLargeError(told))
    if answer.error:
        return Judged(answer.error, {}, TransientError(f"Marketo {call}: no answer ({answer.error})"))
    told, outcome = f"Marketo {call}: status {status}", f"http_{status}"
    if status in _PASSING_STATUS or status >= 500:
        return Judged(outcome, {}, TransientError(told))
    return Judged(outcome, {}, SetupError(f"{told}; check marketo.base_url"))


def _fault(call: str, code: str, message: str) -> HeadwaterError:
    told = f"Marketo {call}: code {code}"
    if code in _PASSING:
        return TransientError(told)
    if code in (_EXPIRED, _INVALID):
        return StaleTokenError(expired=code == _EXPIRED)
    if code == _QUOTA:
        return QuotaError(f"{told}: the calls of the day are used up; go on tomorrow, or raise the quota")
    if code in _DENIED:
        return SetupError(
            f"{told}: access denied; the role of the custom service needs to read activities and persons,"
            " and its address may have to be allowed"
        )
    if code == _FIELD:
        return SetupError(f"{told}: Marketo does not have one of marketo.fields")
    if code in _PARAMETER or _PAGING.search(message):
        return RefusedParameterError(f"{told}: a parameter is not valid")
    return SetupError(f"{told}: refused; see Marketo's list of error codes")
