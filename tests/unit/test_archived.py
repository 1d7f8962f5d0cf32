"""A record → its row in the archive: bytes as they came, fields where they can be read, consent."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from schemas.avro import SchemaOf, framed, parsed
from schemas.contract import Contract, contracts
from sources.registry import avro_schema
from tests.builders import ARRIVED, lead
from transformations.archived import RECORD, WITHHELD, archive_schema, archived

LEAD, USAGE = contracts()["lead.ingest"], contracts()["billing.usage.metered"]
GIVEN = RECORD.remove(RECORD.get_field_index(WITHHELD))


def row_of(
    value: bytes | None, contract: Contract | None = LEAD, schema_of: SchemaOf | None = None
) -> dict[str, Any]:
    """The row of one record among others that are valid."""
    record = {
        "topic": "t", "partition": 0, "offset": 1, "kafka_timestamp": ARRIVED, "ingested_at": ARRIVED,
        "key": b"k", "value": value, "headers": [{"key": "h", "value": b"\0"}],
    }  # fmt: skip
    records = pa.Table.from_pylist([record | {"value": lead()}, record, record | {"value": lead()}], GIVEN)
    rows: list[dict[str, Any]] = archived(contract, schema_of)(records).to_pylist()
    return rows[1]


def said(row: dict[str, Any]) -> dict[str, Any]:
    """What could be read of the record."""
    return {name: value for name, value in row.items() if name.startswith("event__") and value is not None}


def test_fields_are_columns_of_their_own_type_named_by_their_path() -> None:
    row = row_of(
        lead({"/payload/phone": "+14155550132", "/context/utm/source": "x", "/metadata": {"a": 1.50}})
    )
    assert row["event__received_at"] == datetime(2026, 3, 1, 11, 59, 0, 123_000, tzinfo=UTC)
    assert row["event__payload__consent"] is True
    assert (row["event__context__utm__source"], row["event__metadata"]) == ("x", '{"a":1.5}')
    assert row["event__payload__message"] is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"7",
        b'{"a":"\\u0000"}',
        b'{"tenant_id":' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_what_cannot_be_read_keeps_its_bytes_and_has_no_fields(value: bytes | None) -> None:
    row = row_of(value)
    assert (row["key"], row["value"], row["headers"]) == (b"k", value, [{"key": "h", "value": b"\0"}])
    assert (said(row), row[WITHHELD]) == ({}, None)


def test_of_a_record_with_a_wrong_field_the_others_are_read() -> None:
    row = row_of(lead({"/source": 7, "/payload/email": "nobody", "/unknown": 1}))
    assert row["event__source"] is None
    assert (row["event__tenant_id"], row["event__payload__email"]) == ("acme", "nobody")
    assert row["value"] == lead({"/source": 7, "/payload/email": "nobody", "/unknown": 1})


@pytest.mark.parametrize(
    "value",
    [
        lead({"/payload/consent": False}),
        lead({"/payload/consent": False, "/source": 7}),
        lead({"/payload/consent": False}).replace(b"ada", b"\xff"),
        lead({"/payload/consent": False, "/payload/message": "x" * (1 << 20)}),
    ],
)
def test_refused_consent_keeps_its_place_and_nothing_of_the_person(value: bytes) -> None:
    row = row_of(value)
    kept = {name for name, found in row.items() if found is not None}
    assert kept == {"topic", "partition", "offset", "kafka_timestamp", "ingested_at", WITHHELD}
    assert row[WITHHELD] == "no_consent"


@pytest.mark.parametrize(
    ("quantity", "kept"),
    [
        ("1.5", Decimal("1.500000")),
        ("12345678901234567890.123456", Decimal("12345678901234567890.123456")),
        ("0.1234567", None),
        ("1e40", None),
    ],
)
def test_a_number_is_exact_or_null(quantity: str, kept: Decimal | None) -> None:
    event = f'{{"event_id":"e","account_id":"a","ts_ms":1772366400000,"metric":"m","quantity":{quantity}}}'
    row = row_of(event.encode(), USAGE)
    assert (row["event__quantity"], row["event__account_id"]) == (kept, "a")
    assert row["event__ts_ms"] == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_record_in_avro_is_read_by_the_schema_that_it_names() -> None:
    stream, writer = "crm.events", parsed(avro_schema("crm.events"))
    event = {"id": "i", "eventId": "e", "eventType": "call.ended", "organizationId": "acme"}
    event |= {"timestamp": ARRIVED, "data": "{}"}
    row = row_of(framed(5, writer, event), contracts()[stream], {5: writer}.get)
    assert (row["event__eventId"], row["event__timestamp"], row["event__data"]) == ("e", ARRIVED, "{}")
    assert said(row_of(framed(6, writer, event), contracts()[stream], {5: writer}.get)) == {}


def test_a_topic_of_refused_bodies_has_the_columns_of_the_record() -> None:
    row = row_of(b"{}", None)
    assert list(row) == RECORD.names
    assert row["value"] == b"{}"


@pytest.mark.parametrize("contract", [*contracts().values(), None], ids=str)
def test_every_contract_has_its_columns_once(contract: Contract | None) -> None:
    names = archive_schema(contract).names
    assert len(names) == len(set(names)) == len(RECORD) + (len(contract.leaves) if contract else 0)
