"""Fields of the page's forms → what they ask for."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from api.body import read_body
from api.page.forgery import FIELD
from api.problems import Fault, Problem
from api.query import UPLOAD, read_given

FORM = "application/x-www-form-urlencoded"
MAX_FORM_BYTES = 4096
MAX_FIELDS = 8


async def fields_of(
    request: Request, most_bytes: int = MAX_FORM_BYTES, most: int = MAX_FIELDS
) -> dict[str, str]:
    """Names and texts; of a repeated name the last. Raises Problem 400, 408, 413 or 415."""
    raw = await read_body(request, FORM, most_bytes)
    try:
        return dict(parse_qsl(raw.decode("ascii"), max_num_fields=most))
    except ValueError:
        raise Problem(400, "malformed_form") from None


def wanted_of(fields: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What a form says of its file, as `api.query.UPLOAD` reads it. Raises Problem 422.

    A field that was left empty says nothing. A data set is chosen from the list or named: one of the two.
    """
    given = [(name, text) for name, text in fields if text.strip(" ") and name != FIELD]
    sets = [text.strip() for name, text in given if name in ("dataset", "other")]
    if len(sets) != 1:
        message = "is to be chosen from the list or named: one of the two"
        raise Problem(422, "invalid_parameter", (Fault("dataset", "rule:one_dataset", message),))
    others = [(name, text) for name, text in given if name not in ("dataset", "other")]
    return read_given([("dataset", sets[0]), *others], UPLOAD)
