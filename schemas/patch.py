"""A JSON Patch (RFC 6902) that mends events before they are sent again: read, told by a digest, applied.

Numbers keep every digit on their way through. What a patch says is short, but what it copies may be large,
and copies of copies double with each operation: they have a limit of their own.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jsonpatch
import jsonpointer
import msgspec

from headwater.errors import SetupError
from schemas.contract import ROW_LIMIT_BYTES
from schemas.envelope import read_document, to_json

MAX_BYTES = 32 << 10
MAX_OPERATIONS = 100
KINDS = ("add", "remove", "replace", "move", "copy", "test")
_IN_ORDER = msgspec.json.Encoder(decimal_format="number", order="sorted")
_FAULTS = (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException)


class PatchError(ValueError):
    """The patch does not apply to this event: a test fails, or a place is not there."""

    reason = "patch_does_not_apply"


class CopiesTooMuch(PatchError):
    """What it copies of this event is, together, more than an event may have."""

    reason = "patch_copies_too_much"


@dataclass(frozen=True)
class Patch:
    """Operations in their order; `sha256` is of their canonical text, whoever wrote it down how."""

    operations: tuple[dict[str, Any], ...]

    @property
    def text(self) -> str:
        """Keys in order, no blanks."""
        return _IN_ORDER.encode(self.operations).decode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def applied(self, event: bytes | None) -> bytes:
        """The event as it is after the patch. Raises PatchError."""
        document = read_document(event).value
        try:
            mended = _mended(document, self.operations)
            json.dumps(mended, allow_nan=False, default=str)  # a number beyond all doubles has no text
            return to_json(mended).encode()
        except CopiesTooMuch:
            raise
        except (*_FAULTS, TypeError, ValueError, LookupError, RecursionError) as fault:
            raise PatchError(type(fault).__name__) from None


def _mended(document: Any, operations: Iterable[dict[str, Any]]) -> Any:
    """The document, changed in place, after one operation at a time.

    What is copied is weighed before it is, so that a document grows by no more than ROW_LIMIT_BYTES and the
    patch's own text, however large it is.
    """
    left = ROW_LIMIT_BYTES
    for one in operations:
        if one["op"] == "copy":
            left -= len(to_json(jsonpointer.resolve_pointer(document, one["from"])).encode())
        if left < 0:
            raise CopiesTooMuch(f"what it copies has more than {ROW_LIMIT_BYTES} bytes")
        document = jsonpatch.apply_patch(document, [one], in_place=True)
    return document


def read_patch(raw: bytes, most: int = MAX_BYTES) -> Patch:
    """Raises SetupError that says what is wrong with it; never with a value of it."""
    if len(raw) > most:
        raise SetupError(f"the patch has {len(raw)} bytes; {most} are the most")
    # An array is no event: wrapped, it is read by the same strict reader.
    found = read_document(b'{"patch":' + raw + b"}")
    is_one = found.fault is None and found.value.keys() == {"patch"}
    return patch_of(found.value["patch"] if is_one else None)


def patch_of(operations: Any) -> Patch:
    """The same of a document that was read. Raises SetupError."""
    if not isinstance(operations, list) or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise SetupError(f"a patch is a JSON array of 1 to {MAX_OPERATIONS} operations (RFC 6902)")
    for number, one in enumerate(operations):
        _check(number, one)
    return Patch(tuple(operations))


def _check(number: int, operation: Any) -> None:
    kind = operation.get("op") if isinstance(operation, dict) else None
    if kind not in KINDS:
        raise SetupError(f"operation {number} of the patch: op is none of {', '.join(KINDS)}")
    try:
        jsonpatch.JsonPatch([operation])
    except (*_FAULTS, TypeError, ValueError, AttributeError) as fault:
        raise SetupError(f"operation {number} of the patch, {kind}: {_why(fault)}") from None


def _why(fault: Exception) -> str:
    """A pointer that is none, or a part that is missing."""
    return "is not as RFC 6902 has it" if not isinstance(fault, _FAULTS) else type(fault).__name__
