"""Records in Confluent's framing: what is read, by whose schema, and why there is no document."""

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import TransientError
from schemas.avro import Schema, avro_reader, framed, parsed
from schemas.envelope import Document
from sources.registry import avro_schema

NUMBER = 7
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 15, "scale": 2}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def schema(*fields: tuple[str, Any]) -> Schema:
    made = [{"name": name, "type": kind} for name, kind in fields]
    return parsed(json.dumps({"type": "record", "name": "Made", "fields": made}))


def read(raw: bytes | None, writer: Schema = None) -> Document:
    known = {NUMBER: writer if writer is not None else schema(("name", "string"))}
    return avro_reader(known.get)(raw)


def one(kind: Any, value: Any) -> Document:
    """What a field of this type becomes."""
    writer = schema(("x", kind))
    document = read(framed(NUMBER, writer, {"x": value}), writer)
    return Document(document.value and document.value["x"], document.fault)


@pytest.mark.parametrize(
    ("kind", "value", "becomes"),
    [
        ("string", "Zoë", "Zoë"),
        (["null", "string"], None, None),
        ("long", 2**63 - 1, 2**63 - 1),
        ("boolean", False, False),
        ("double", 0.1, Decimal("0.1")),
        ("bytes", b"\x00\xff", "AP8="),
        (MONEY, Decimal("12.30"), Decimal("12.30")),
        (MILLIS, datetime(2026, 3, 1, 12, 0, 0, 123000, UTC), "2026-03-01T12:00:00.123000Z"),
        ({"type": "long", "logicalType": "timestamp-micros"}, datetime(2026, 3, 1, 12, 0, 0, 1, UTC),
         "2026-03-01T12:00:00.000001Z"),
        (MILLIS, 2**60, 2**60),  # no such year: the contract's matter
        ({"type": "int", "logicalType": "date"}, date(2026, 3, 1), "2026-03-01"),
        ({"type": "int", "logicalType": "date"}, date(1, 1, 1), "0001-01-01"),
        ({"type": "int", "logicalType": "time-millis"}, time(12, 30), "12:30:00"),
        ({"type": "string", "logicalType": "uuid"}, UUID(int=1), str(UUID(int=1))),
        ({"type": "array", "items": "double"}, [1.5], [Decimal("1.5")]),
        ({"type": "map", "values": "int"}, {"a": 1}, {"a": 1}),
    ],
)  # fmt: skip
def test_values_become_what_json_would_have(kind: Any, value: Any, becomes: Any) -> None:
    assert one(kind, value) == (becomes, None)


SOUND = framed(NUMBER, schema(("name", "string")), {"name": "x"})
SURROGATE = SOUND[:5] + b"\x06\xed\xa0\x80"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (None, "empty"),
        (b"", "empty"),
        (bytes(2**20 + 1), "too_large"),
        (b'{"name": "x"}', "avro_mismatch"),
        (SOUND[:4], "avro_mismatch"),
        (b"\x01" + SOUND[1:], "avro_mismatch"),
        (SOUND[:5], "avro_mismatch"),
        (SOUND[:-1], "avro_mismatch"),
        (SOUND + b"\0", "avro_mismatch"),
        (SOUND[:5] + b"\xff\xff\xff\xff\x0f", "avro_mismatch"),  # a text of less than no letters
        (b"\0\0\0\0\x08" + SOUND[5:], "unknown_schema_id"),
        (SOUND[:5] + b"\x02\xff", "invalid_utf8"),
        (SURROGATE, "invalid_utf8"),
        (SOUND[:5] + b"\x02\0", "nul_character"),
    ],
)
def test_a_record_that_cannot_be_read_has_one_reason(raw: bytes | None, fault: str) -> None:
    assert read(raw) == (None, fault)


def test_a_number_that_is_none_is_told_as_in_json() -> None:
    assert one("double", float("inf")).fault == "type_mismatch"
    assert one("float", float("nan")).fault == "type_mismatch"


def test_what_is_deeper_than_json_may_be_is_refused() -> None:
    nested: Any = "int"
    value: Any = 1
    for level in range(40):
        nested = {"type": "record", "name": f"N{level}", "fields": [{"name": "n", "type": nested}]}
        value = {"n": value}
    writer = parsed(json.dumps(nested))
    assert read(framed(NUMBER, writer, value), writer).fault == "too_deep"


@pytest.mark.parametrize(
    "field",
    [
        ["null", "Made"],  # holds itself
        {"type": "map", "values": {"type": "array", "items": "Made"}},
        {"type": "array", "items": "null"},  # takes no bytes
        {"type": "array", "items": {"type": "record", "name": "Empty", "fields": []}},
    ],
)
def test_a_schema_by_which_some_bytes_may_be_a_document_without_end_is_none(field: Any) -> None:
    assert schema(("x", field)) is None


@pytest.mark.parametrize(
    ("unscaled", "precision", "becomes"),
    [
        (123456789012, 12, (Decimal("1234567890.12"), None)),
        (-5, 10, (Decimal("-0.05"), None)),
        (123456789012, 10, (None, "avro_mismatch")),
        (10**400, 500, (None, "avro_mismatch")),
    ],
)
def test_a_decimal_is_exact_or_none(unscaled: int, precision: int, becomes: Any) -> None:
    body = unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
    raw = framed(NUMBER, schema(("x", "bytes")), {"x": body})
    document = read(raw, schema(("x", {**MONEY, "precision": precision})))
    assert (document.value and document.value["x"], document.fault) == becomes


def test_a_key_with_u0000_is_refused_as_a_text_is() -> None:
    assert one({"type": "map", "values": "int"}, {"a\0b": 1}).fault == "nul_character"


def test_a_topic_of_several_types_has_a_union_of_schemas_that_are_elsewhere() -> None:
    types = [
        json.dumps({"type": "record", "name": f"t.{name}", "fields": [{"name": name, "type": "int"}]})
        for name in ("A", "B")
    ]
    writer = parsed('["t.A", "t.B"]', types)
    assert read(framed(NUMBER, writer, {"B": 5}), writer) == ({"B": 5}, None)


def test_a_body_that_is_no_record_is_refused() -> None:
    writer = parsed('"string"')
    assert read(framed(NUMBER, writer, "x"), writer).fault == "avro_mismatch"


def test_a_registry_that_is_away_is_nobodys_fault() -> None:
    def away(_number: int) -> Schema:
        raise TransientError("away")

    with pytest.raises(TransientError):
        avro_reader(away)(SOUND)


def test_a_schema_that_refers_to_others_is_read_with_them_and_nonsense_is_none() -> None:
    money = '{"type": "record", "name": "Money", "fields": [{"name": "amount", "type": "int"}]}'
    text = '{"type": "record", "name": "Made", "fields": [{"name": "x", "type": "Money"}]}'
    writer = parsed(text, [money])
    assert read(framed(NUMBER, writer, {"x": {"amount": 5}}), writer) == ({"x": {"amount": 5}}, None)
    assert [parsed(broken) for broken in (text, "{", '{"type": "nonsense"}', "[]x", "7")] == [None] * 5


@given(st.binary(max_size=200))
def test_any_bytes_are_a_document_or_have_a_reason(raw: bytes) -> None:
    for stream in ("crm.leads", "crm.opportunities", "crm.events"):
        found = read(b"\0\0\0\0\x07" + raw, parsed(avro_schema(stream)))
        assert (found.fault is None) == isinstance(found.value, dict)
