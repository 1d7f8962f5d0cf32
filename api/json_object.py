"""Bodies that are one small JSON object of known fields."""

from collections.abc import Collection
from typing import Any

from api.document import decode, step
from api.events import MALFORMED
from api.problems import Fault, Problem


def read_object(raw: bytes, fields: Collection[str], code: str) -> tuple[dict[str, Any], list[Fault]]:
    """The object, and what is wrong with it so far, unknown fields among it.

    Raises Problem 400 for what is no document, 422 with this code for what is no object.
    """
    body, faults = decode(raw)
    if any(fault.code in MALFORMED for fault in faults):
        raise Problem(400, faults[0].code, faults)
    if not isinstance(body, dict):
        raise Problem(422, code, [Fault("", "type_mismatch", "must be an object")])
    unknown = [name for name in body if name not in fields]
    return body, [
        *faults,
        *[Fault(step("", name), "rule:unknown_field", "is not a field of this request") for name in unknown],
    ]
