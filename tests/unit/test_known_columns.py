"""Objects with known fields: the quick reader has what the exact one has, or says that it is in doubt."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.contract import MAX_DEPTH
from schemas.envelope import LONGEST_NUMBER, read_document
from schemas.rows import FIELD_LIMIT_BYTES
from sources.parsers.known_columns import known_columns

NAMES = ("a", "é", "a b", "/'")
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
VALUE = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=2), max_leaves=4)
DOCUMENT = st.dictionaries(st.sampled_from(NAMES), VALUE, max_size=4)
# What a writer would not make: repeated keys, other fields, numbers beyond all types, broken ends.
SPLICE = st.sampled_from(
    [
        b"", b'{"a":1,"a":2}', b',"x":1', b"1e400", b"-0", b"1.0", b"9" * 400, b'"\\u0000"', b"[" * 40, b"}",
        b'{"\\u0061":1}', b'{"a":"\\ud800"}', b"\xff", b"NaN", b" ", b"null", b'{"a":1} ',
    ]
)  # fmt: skip


def judged(raw: bytes, refuses: bool, *others: bytes) -> Any:
    """The values of the first document; None: it is in doubt."""
    columns, doubtful = known_columns(NAMES, refuses)([raw, *others])
    return None if 0 in doubtful else tuple(column[0] for column in columns)


@given(DOCUMENT, SPLICE, st.integers(0), st.booleans(), st.booleans())
@example({"a": 1}, b'{"a":1,"a":2}', 0, True, True)
def test_what_is_taken_is_what_the_exact_reader_reads(
    document: dict[str, Any], splice: bytes, at: int, ascii_only: bool, refuses: bool
) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only).encode()
    place = at % (len(text) + 1)
    for raw in (text[:place] + splice + text[place:], splice):
        found = judged(raw, refuses)
        if found is None:
            continue
        exact = read_document(raw)
        assert exact.fault is None
        assert not refuses or set(exact.value) <= set(NAMES)
        assert repr(found) == repr(tuple(map(exact.value.get, NAMES)))


@given(DOCUMENT)
def test_a_usual_document_is_taken(document: dict[str, Any]) -> None:
    raw = json.dumps(document).encode()
    assert judged(raw, True) == tuple(map(json.loads(raw, parse_float=Decimal).get, NAMES))


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"\\u0000"}',
        b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"a":' + b"9" * LONGEST_NUMBER + b"}",
        b'{"a":1.' + b"9" * LONGEST_NUMBER + b"}",
        b'{"a":1e400}',
        b'{"a":"' + b"x" * FIELD_LIMIT_BYTES + b'"}',
        b'{"x":1}',
        b"[1]",
        b"",
    ],
)
def test_a_document_in_doubt_is_not_taken_beside_others_that_are(raw: bytes) -> None:
    assert judged(raw, True, *[b'{"a":1}'] * 100) is None


def test_other_fields_are_left_out_where_they_are_not_refused() -> None:
    assert judged(b'{"x":{"a":2},"a":1}', False) == (1, None, None, None)


def test_one_document_that_is_too_deep_leaves_the_others_as_they_are() -> None:
    deep = b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"
    columns, doubtful = known_columns(NAMES, True)([b'{"a":[1]}', deep])
    assert (columns[0][0], doubtful) == ([1], [1])


@pytest.mark.parametrize("name", ['"', "\\", "\n"])
def test_where_a_column_has_an_escaped_name_every_document_is_in_doubt(name: str) -> None:
    _, doubtful = known_columns(("a", name), True)([json.dumps({"a": 1, name: 2}).encode()])
    assert doubtful == [0]
