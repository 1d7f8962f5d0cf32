"""The body of POST …/dead-letters/replays: an order of letters, and a JSON Patch for each of them."""

from dataclasses import dataclass
from typing import Any

from api import json_patch
from api.json_object import read_object
from api.letters_body import FIELDS, INVALID, Order, detail_of, order_of
from schemas.patch import Patch

_FIELDS = (*FIELDS, "patch")


@dataclass(frozen=True)
class Request:
    """Letters of one tenant that are to be sent again, patched if there is a patch."""

    order: Order
    patch: list[Any] | None


def read_request(raw: bytes, tenant: str) -> Request:
    """The request. Raises Problem 400 for what is no document, 422 with all faults of one."""
    body, faults = read_object(raw, _FIELDS, INVALID)
    if "patch" in body:
        faults += json_patch.faults_of(body["patch"], "/patch")
    return Request(order_of(body, faults, tenant), body.get("patch"))


def about(wanted: Request) -> dict[str, Any]:
    """What the audit trail has of it: not the patch, whose values may be somebody's, but its digest."""
    found = detail_of(wanted.order.wanted) | {"why": wanted.order.why}
    return found if wanted.patch is None else found | {"patch_sha256": Patch(tuple(wanted.patch)).sha256}
