"""What the HTTP API refused → dead letters of stage api.

The record's value is the body as it was sent; its headers say whose it is and what is wrong with it.
"""

from collections.abc import Iterable
from typing import TypedDict

import msgspec

from transformations.validate import Reason
from transformations.verdict import Unsound

STAGE = "api"
TENANT_HEADER = "tenant_id"
REASONS_HEADER = "reasons"
# Of a record without readable headers: someone else than the API wrote it.
_FOREIGN: tuple[Reason, ...] = (("malformed_json", ""),)
_reasons = msgspec.json.Decoder(list[tuple[str, str]])


class Header(TypedDict, total=False):
    """One of a Kafka record's headers; without `value` where that was null."""

    key: str
    value: bytes


def refused(headers: Iterable[Header] | None) -> Unsound:
    """A record's headers → its verdict: dead, with the reasons that the API gave."""
    said = {header["key"]: header.get("value") for header in headers or ()}
    tenant = (said.get(TENANT_HEADER) or b"").decode("utf-8", "replace") or None
    try:
        reasons = _reasons.decode(said.get(REASONS_HEADER) or b"")
    except msgspec.DecodeError:
        reasons = []
    return Unsound("dead", tenant, None, reasons or _FOREIGN, STAGE)
