"""What counts as a JSON document, against Python's own parser told to be strict."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.envelope import read_document, to_json
from tests.builders import lead
from tests.unit.test_values import TEXT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=True) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)
SPLICES = [
    *(b"", b" ", b",", b'"', b"}", b"]", b"{", b"[", b":", b"0", b"1e5", b"\\", b"\\u00e9", b"null", b"NaN"),
    *(b"\n", b"\t", b"\x00", b"\x1f", b"'a'", b"//", b'"k":1', b',"b":1', b',"zz":1', b',"z":{}', b"-", b"+"),
]


@st.composite
def json_like(draw: st.DrawFn) -> bytes:
    """A JSON document, most often damaged in one place."""
    text = json.dumps(draw(JSON), ensure_ascii=True).encode()
    at = draw(st.sampled_from([0, len(text), draw(st.integers(0, len(text)))]))
    cut = draw(st.sampled_from([0, 0, 0, 1, 2]))
    return text[:at] + draw(st.sampled_from(SPLICES)) + text[at + cut :]


def strictly_json(data: bytes) -> bool:
    """Whether Python's parser, told to be strict, takes it."""

    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(data.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


def is_refused(data: bytes) -> bool:
    return read_document(data).fault in ("malformed_json", "empty")


@pytest.mark.parametrize("prefix", [b"", b'{"tenant_id": "acme"}'])
@given(value=json_like())
def test_what_is_json_is_decided_as_a_strict_parser_decides(prefix: bytes, value: bytes) -> None:
    assert is_refused(prefix + value) != strictly_json(prefix + value)


@pytest.mark.parametrize("prefix", [b"", b'{"tenant_id": "acme"}'])
@pytest.mark.parametrize("value", [*SPLICES, lead()])
def test_scraps_are_judged_as_a_strict_parser_judges_them(prefix: bytes, value: bytes) -> None:
    assert is_refused(prefix + value) != strictly_json(prefix + value)


@given(content=JSON, at=st.integers(0, 200), splice=st.sampled_from(SPLICES))
def test_what_is_read_without_a_fault_is_what_the_strict_parser_reads(
    content: Any, at: int, splice: bytes
) -> None:
    text = json.dumps({"k": content}).encode()
    data = text[:at] + splice + text[at:]
    found = read_document(data)
    assume(found.fault is None)
    assert found.value == json.loads(data, parse_float=Decimal)


@given(data=st.binary() | TEXT.map(str.encode))
def test_any_bytes_are_an_object_or_have_a_fault(data: bytes) -> None:
    found = read_document(data)
    assert found.fault or isinstance(found.value, dict)


@given(number=NUMBERS)
def test_to_json_keeps_every_digit(number: str) -> None:
    document = read_document(f'{{"n": [{number}]}}'.encode())
    beyond_a_double = abs(Decimal(number)) > Decimal(float.fromhex("0x1.fffffffffffffp+1023"))
    assert document.fault == ("type_mismatch" if beyond_a_double else None)
    if not beyond_a_double:
        written = json.loads(to_json(document.value), parse_float=Decimal, parse_int=Decimal)["n"][0]
        assert written == Decimal(number)
        assert written.as_tuple()[1:] == Decimal(number).as_tuple()[1:]


@given(value=st.dictionaries(TEXT, JSON.filter(lambda made: "NaN" not in repr(made)), max_size=3))
def test_to_json_writes_compactly_what_was_read(value: dict[str, Any]) -> None:
    document = read_document(json.dumps(value).encode())
    assume(document.fault is None)
    text = to_json(document.value)
    assert read_document(text.encode()) == document
    assert json.loads(text, parse_float=Decimal) == document.value
