"""A JSON Patch (RFC 6902) in a body: what is wrong with it, by place. It is applied by the jobs."""

import re

from api.document import step
from api.problems import Fault
from schemas.patch import MAX_BYTES, MAX_OPERATIONS, Patch

# RFC 6901: `~` is written ~0, `/` within a name ~1.
POINTER = r"(/([^~/]|~[01])*)*"
# What each kind needs beside its path. Other members are ignored (RFC 6902 §4).
KINDS = {
    "add": ("value",),
    "remove": (),
    "replace": ("value",),
    "move": ("from",),
    "copy": ("from",),
    "test": ("value",),
}
_POINTER = re.compile(POINTER)
_IS_NO_POINTER = "is no JSON Pointer"


def faults_of(patch: object, place: str) -> list[Fault]:
    """What is wrong with a patch at this place of a body; nothing when it is one."""
    if not isinstance(patch, list):
        return [Fault(place, "type_mismatch", "must be an array")]
    if not 1 <= len(patch) <= MAX_OPERATIONS:
        return [Fault(place, "rule:items", f"has not 1 to {MAX_OPERATIONS} operations")]
    if len(Patch(tuple(patch)).text.encode()) > MAX_BYTES:
        return [Fault(place, "rule:max_length", f"is longer than {MAX_BYTES >> 10} KiB")]
    return [fault for number, one in enumerate(patch) for fault in _operation(one, step(place, number))]


def _operation(one: object, place: str) -> list[Fault]:
    if not isinstance(one, dict):
        return [Fault(place, "type_mismatch", "must be an object")]
    kind = one.get("op")
    if not isinstance(kind, str) or kind not in KINDS:
        return [Fault(step(place, "op"), "rule:enum", "is not one of " + ", ".join(KINDS))]
    faults = [
        Fault(step(place, name), "missing_required", "is missing")
        for name in ("path", *KINDS[kind])
        if name not in one
    ]
    pointers = [name for name in ("path", "from") if name in one and (name == "path" or name in KINDS[kind])]
    wrong = [name for name in pointers if not _is_pointer(one[name])]
    return faults + [Fault(step(place, name), "rule:pattern", _IS_NO_POINTER) for name in wrong]


def _is_pointer(text: object) -> bool:
    return isinstance(text, str) and bool(_POINTER.fullmatch(text))
