"""A JSON Patch in a body: what is one, what is not, and its digest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.json_patch import MAX_BYTES, faults_of
from api.openapi_replays import PATCH_SCHEMA
from api.problems import Problem
from api.replays_body import about, read_request
from schemas.patch import Patch

GOOD: list[dict[str, Any]] = [
    {"op": "add", "path": "/a", "value": None},
    {"op": "remove", "path": "/a/0"},
    {"op": "replace", "path": "", "value": {}},
    {"op": "move", "path": "/~0~1", "from": "/b", "unknown": 1},
    {"op": "copy", "path": "/-", "from": ""},
    {"op": "test", "path": "/a", "value": [1]},
]
ORDER = {"ids": ["0f" * 32], "why": "x"}


def test_all_six_kinds_are_taken_and_members_that_are_not_known_are_left() -> None:
    assert faults_of(GOOD, "/patch") == []
    kinds = [one["properties"]["op"]["const"] for one in PATCH_SCHEMA["items"]["oneOf"]]
    assert kinds == [one["op"] for one in GOOD]


@pytest.mark.parametrize(
    ("patch", "fault"),
    [
        ({}, ("/patch", "type_mismatch")),
        (None, ("/patch", "type_mismatch")),
        ([], ("/patch", "rule:items")),
        ([{"op": "remove", "path": "/a"}] * 101, ("/patch", "rule:items")),
        ([{"op": "add", "path": "/a", "value": "x" * MAX_BYTES}], ("/patch", "rule:max_length")),
        ([1], ("/patch/0", "type_mismatch")),
        ([{"path": "/a"}], ("/patch/0/op", "rule:enum")),
        ([{"op": "merge", "path": "/a"}], ("/patch/0/op", "rule:enum")),
        ([{"op": ["add"], "path": "/a"}], ("/patch/0/op", "rule:enum")),
        ([{"op": "remove"}], ("/patch/0/path", "missing_required")),
        ([{"op": "remove", "path": "a"}], ("/patch/0/path", "rule:pattern")),
        ([{"op": "remove", "path": "/a~2"}], ("/patch/0/path", "rule:pattern")),
        ([{"op": "remove", "path": "/a~"}], ("/patch/0/path", "rule:pattern")),
        ([GOOD[1], {"op": "test", "path": "/a"}], ("/patch/1/value", "missing_required")),
        ([{"op": "move", "path": "/a"}], ("/patch/0/from", "missing_required")),
        ([{"op": "copy", "path": "/a", "from": 1}], ("/patch/0/from", "rule:pattern")),
    ],
)  # fmt: skip
def test_what_is_no_patch_is_told_by_its_place(patch: object, fault: tuple[str, str]) -> None:
    (found,) = faults_of(patch, "/patch")
    assert (found.field, found.code) == fault


def test_equal_patches_have_one_digest_however_they_are_written() -> None:
    turned = [dict(reversed(one.items())) for one in GOOD]
    assert digest(turned) == digest(GOOD)


def digest(patch: list[dict[str, Any]]) -> str:
    return Patch(tuple(patch)).sha256


def test_the_trail_has_a_patchs_digest_and_none_of_its_values() -> None:
    patch = [{"op": "add", "path": "/payload/email", "value": "ada@example.com"}]
    found = read_request(json.dumps(ORDER | {"patch": patch}).encode(), "acme")
    assert about(found) == ORDER | {"patch_sha256": digest(patch)}
    assert about(read_request(json.dumps(ORDER).encode(), "acme")) == ORDER


VALUES = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
MEMBERS = st.sampled_from(["op", "path", "from", "value"])


@given(st.lists(st.dictionaries(MEMBERS, VALUES | st.sampled_from(["add", "/a", "test"]))) | VALUES)
def test_whatever_is_sent_is_a_patch_or_a_refusal(patch: object) -> None:
    try:
        found = read_request(json.dumps(ORDER | {"patch": patch}).encode(), "acme")
    except Problem as refusal:
        assert refusal.status in (400, 422) and refusal.errors
    else:
        assert found.patch == patch
