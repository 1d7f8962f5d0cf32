"""Patches of events: which are taken, what they do, and that numbers keep every digit."""

import json

import pytest

from headwater.errors import SetupError
from schemas.contract import ROW_LIMIT_BYTES
from schemas.patch import MAX_BYTES, MAX_OPERATIONS, CopiesTooMuch, PatchError, read_patch

EVENT = b'{"payload": {"email": "a@example.com", "n": 1.10, "big": 12345678901234567890123}}'


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        (
            b'[{"op": "add", "path": "/payload/consent", "value": true}]',
            b'{"payload":{"email":"a@example.com","n":1.10,"big":12345678901234567890123,"consent":true}}',
        ),
        (
            b'[{"op": "test", "path": "/payload/n", "value": 1.1}, {"op": "remove", "path": "/payload/big"}]',
            b'{"payload":{"email":"a@example.com","n":1.10}}',
        ),
        (
            b'[{"op": "replace", "path": "/payload", "value": {"quantity": 2.50}}]',
            b'{"payload":{"quantity":2.50}}',
        ),
    ],
)
def test_a_patch_changes_what_it_names_and_nothing_else(patch: bytes, after: bytes) -> None:
    assert read_patch(patch).applied(EVENT) == after


@pytest.mark.parametrize(
    "event", [None, b"", b"not JSON", b"[]", b'{"other": 1}', b'{"payload": {"n": 1e999}}']
)
def test_a_patch_that_does_not_apply_says_so(event: bytes | None) -> None:
    with pytest.raises(PatchError):
        read_patch(b'[{"op": "replace", "path": "/payload/email", "value": ""}]').applied(event)


def copies(*places: tuple[str, str]) -> bytes:
    return json.dumps([{"op": "copy", "from": source, "path": to} for source, to in places]).encode()


LARGE = b'{"text": "' + b"x" * (ROW_LIMIT_BYTES * 2 // 3) + b'"}'


@pytest.mark.parametrize(
    ("event", "patch"),
    [
        # Each doubles the event.
        (EVENT, copies(*[("", f"/x{n}") for n in range(16)])),
        (LARGE, copies(("/text", "/x"), ("/text", "/y"))),
        # What is taken away again was there all the same.
        (LARGE, copies(("/text", "/x"), ("/text", "/x"))),
    ],
)
def test_what_a_patch_copies_is_no_more_than_an_event_may_have(event: bytes, patch: bytes) -> None:
    with pytest.raises(CopiesTooMuch):
        read_patch(patch).applied(event)


def test_a_part_of_any_event_is_copied_as_often_as_a_patch_may_say() -> None:
    small = copies(*[("/a", f"/x{n}") for n in range(MAX_OPERATIONS)])
    found = json.loads(read_patch(small).applied(b'{"a":1,' + LARGE[1:]))
    assert len(found) == MAX_OPERATIONS + 2
    assert json.loads(read_patch(copies(("/text", "/x"))).applied(LARGE)).keys() == {"text", "x"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "JSON array"),
        (b"{}", "JSON array"),
        (b"[]", "1 to 100"),
        (b'[{"op": "test", "path": "", "value": 1}], "more": 1', "JSON array"),
        (b'[{"op": "add"}]', "operation 0 of the patch, add"),
        (b'[{"op": "test", "path": "", "value": 1}, {"op": "drop", "path": ""}]', "operation 1 of the patch"),
        (b'[{"op": "remove", "path": "no-pointer"}]', "operation 0 of the patch, remove"),
        (b"[1]", "operation 0"),
        (b" " * (MAX_BYTES + 1), "are the most"),
    ],
)
def test_what_is_no_patch_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        read_patch(text)


def test_the_digest_is_of_what_a_patch_says_not_of_how_it_is_written() -> None:
    one = read_patch(b'[{"op":"add","path":"/a","value":{"x":1.50,"y":2}}]')
    other = read_patch(b'[ {"value": {"y": 2, "x": 1.50}, "path": "/a", "op": "add"} ]')
    assert one.sha256 == other.sha256
    assert one.sha256 != read_patch(b'[{"op":"add","path":"/a","value":{"x":1.51,"y":2}}]').sha256
    assert read_patch(one.text.encode()).text == one.text
