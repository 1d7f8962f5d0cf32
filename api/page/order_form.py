"""The forms that send letters again or discard them → the bodies that the API takes for it."""

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request

from api.document import decode
from api.letters_query import FILTER
from api.page.forgery import FIELD, check_form
from api.page.form import fields_of
from api.page.visit import who
from api.problems import Fault, Problem

MAX_FORM_BYTES = 128 << 10  # a patch of 32 KiB, each byte of it written as three
MAX_FIELDS = len(FILTER) + 8


async def order_fields(request: Request) -> dict[str, str]:
    """The fields of a form about letters, which is our own. Raises Problem 400, 403, 408, 413 or 415."""
    given = await fields_of(request, MAX_FORM_BYTES, MAX_FIELDS)
    check_form(request, who(request).session.token, given.get(FIELD))
    return given


def body_of(fields: Mapping[str, str]) -> bytes:
    """The body. Raises Problem 422 for a patch that is no JSON; all else is for whoever reads the body."""
    body: dict[str, Any] = {"why": fields.get("why", "").strip()}
    if "id" in fields:
        body["ids"] = [fields["id"]]
    else:
        body["filter"] = {name: fields[name] for name in FILTER if name in fields}
    patch = fields.get("patch", "").strip()
    return orjson.dumps(body | {"patch": _patch(patch)} if patch else body)


def _patch(text: str) -> Any:
    value, faults = decode(text.encode("utf-8", "replace"))
    if faults:
        raise Problem(422, "invalid_order", [Fault("patch", fault.code, fault.message) for fault in faults])
    return value
