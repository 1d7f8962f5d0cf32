"""The streams of the domain crm: schemas and contracts agree, rules, and the row that each event becomes."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from schemas.avro import framed, parsed
from schemas.contract import Contract, Field, domain_contracts
from schemas.tables import LINEAGE, SILVER
from sources.registry import avro_schema
from tests.builders import arrow_bronze, arrow_schema
from transformations.classify import Classifier, judges, outcome_columns
from transformations.verdict import Decided

CONTRACTS = {c.stream: c for c in domain_contracts("crm").values()}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000
NUMBER = 3
STREAMS = ("crm.leads", "crm.contacts", "crm.opportunities", "crm.events")
WRITERS = {stream: parsed(avro_schema(stream)) for stream in STREAMS}
BOTH = {"createdAt": NOW, "updatedAt": NOW, "organizationId": "acme"}
PERSON = {"firstName": "Zoë", "lastName": "O'Neil", "email": "Zoe@Example.COM"}
DATA: dict[str, Any] = {
    "crm.leads": {"id": "L1", **PERSON, "source": "web", "status": "new", "score": 70, **BOTH},
    "crm.contacts": {"id": "C1", **PERSON, "leadId": "L1", **BOTH},
    "crm.opportunities": {
        "id": "O1", "name": "Big", "amount": Decimal("1234.50"), "currency": "EUR", "stage": "proposal",
        "probability": 40, "expectedCloseDate": date(2026, 4, 1), "contactId": "C1", **BOTH,
    },
    "crm.events": '{"call": 1}',
}  # fmt: skip
TYPES = {
    "crm.leads": "lead.created",
    "crm.contacts": "contact.updated",
    "crm.opportunities": "opportunity.won",
    "crm.events": "call.ended",
}
KINDS = {
    "string": "string",
    "timestamp": "timestamp-millis",
    "date": "date",
    "number": "decimal",
    "integer": "int",
}


def event(stream: str, **data: Any) -> dict[str, Any]:
    said = DATA[stream] if stream == "crm.events" else {**DATA[stream], **data}
    return {
        "id": "0b6c1f0e-6f2e-4c57-9d8b-0a4a37e6d1aa",
        "eventId": "e1",
        "eventType": TYPES[stream],
        "organizationId": "acme",
        "timestamp": NOW,
        "data": said,
        "metadata": {"source": "outbox", "version": "1", "correlationId": None},
    }


def decided(stream: str, *records: bytes) -> Decided:
    contract = CONTRACTS[stream]
    _, decide = judges((contract,), None, _schema_of(stream))[contract.topic]
    assert decide is not None
    return decide(records, [NOW_US] * len(records))


def _schema_of(stream: str) -> Any:
    return {NUMBER: WRITERS[stream]}.get


def raw(stream: str, document: dict[str, Any]) -> bytes:
    return framed(NUMBER, WRITERS[stream], document)


def row(stream: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
    sound, unsound = decided(stream, raw(stream, document or event(stream)))
    assert not unsound
    return {name: column[0] for name, column in sound.columns.items()}


def reasons(stream: str, document: dict[str, Any]) -> list[tuple[str, str]]:
    _, unsound = decided(stream, raw(stream, document))
    return list(unsound[0].reasons) if unsound else []


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_the_avro_schema_has_the_fields_of_the_contract(contract: Contract) -> None:
    # The contract takes metadata as a whole.
    inside = {f"/metadata/{name}": "string" for name in ("source", "version", "correlationId")}
    known = {field.pointer: KINDS[field.kind] for field in contract.leaves if field.kind != "object"}
    assert _named(json.loads(avro_schema(contract.stream))) == known | inside


def _named(record: dict[str, Any], path: str = "") -> dict[str, str]:
    """Pointer → type of every field that holds a value."""
    found: dict[str, str] = {}
    for part in record["fields"]:
        kind = part["type"][1] if isinstance(part["type"], list) else part["type"]
        pointer = f"{path}/{part['name']}"
        if isinstance(kind, dict) and kind["type"] == "record":
            found |= _named(kind, pointer)
        else:
            found[pointer] = kind["logicalType"] if isinstance(kind, dict) else kind
    return found


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
def test_what_the_contract_requires_the_schema_does_not_let_be_null(contract: Contract) -> None:
    nullable = _nullable(json.loads(avro_schema(contract.stream)))
    required: list[Field] = [field for field in contract.leaves if field.required]
    assert required and not nullable & {field.pointer for field in required}


def _nullable(record: dict[str, Any], path: str = "") -> set[str]:
    found: set[str] = set()
    for part in record["fields"]:
        pointer = f"{path}/{part['name']}"
        if isinstance(part["type"], list):
            found.add(pointer)
        elif isinstance(part["type"], dict) and part["type"]["type"] == "record":
            found |= _nullable(part["type"], pointer)
    return found


@pytest.mark.parametrize("stream", STREAMS)
def test_every_column_of_silver_is_made_and_nothing_else(stream: str) -> None:
    lineage = {part.split()[0] for part in LINEAGE.strip().split(",")} - {"extras"}
    wanted = set(SILVER[stream].names) - lineage
    assert row(stream).keys() - {"warned"} == wanted


def test_a_lead_becomes_its_row() -> None:
    found = row("crm.leads")
    assert {
        name: found[name]
        for name in (
            "event_id",
            "event_type",
            "lead_id",
            "first_name",
            "email",
            "phone",
            "score",
            "created_at",
        )
    } == {
        "event_id": "e1",
        "event_type": "lead.created",
        "lead_id": "L1",
        "first_name": "Zoë",
        "email": "zoe@example.com",
        "phone": None,
        "score": Decimal(70),
        "created_at": NOW_US,
    }
    assert json.loads(found["metadata"]) == {"source": "outbox", "version": "1", "correlationId": None}


def test_an_amount_is_exact_and_a_day_is_a_day() -> None:
    found = row("crm.opportunities")
    assert (found["opportunity_id"], found["contact_id"], found["lead_id"]) == ("O1", "C1", None)
    assert found["amount"] == Decimal("1234.50")
    assert found["expected_close_date"] == (date(2026, 4, 1) - date(1970, 1, 1)).days


@pytest.mark.parametrize(
    ("stream", "changed", "reason"),
    [
        ("crm.leads", {"organizationId": "globex"}, ("rule:tenant_match", "/data/organizationId")),
        ("crm.leads", {"id": ""}, ("missing_required", "/data/id")),
        ("crm.leads", {"company": "x" * 256}, ("rule:max_length", "/data/company")),
        ("crm.opportunities", {"amount": Decimal("-0.01")}, ("rule:minimum", "/data/amount")),
        ("crm.opportunities", {"currency": "euro"}, ("rule:max_length", "/data/currency")),
        ("crm.opportunities", {"currency": "eur"}, ("rule:pattern", "/data/currency")),
        ("crm.opportunities", {"probability": 101}, ("rule:maximum", "/data/probability")),
        ("crm.contacts", {"updatedAt": 2**60}, ("type_mismatch", "/data/updatedAt")),
    ],
)
def test_a_value_that_breaks_a_rule_is_told(
    stream: str, changed: dict[str, Any], reason: tuple[str, str]
) -> None:
    assert reason in reasons(stream, event(stream, **changed))


def test_a_type_of_event_belongs_to_its_topic_but_the_wildcard_takes_any() -> None:
    assert reasons("crm.contacts", {**event("crm.contacts"), "eventType": "lead.created"}) == [
        ("rule:enum", "/eventType")
    ]
    assert reasons("crm.events", {**event("crm.events"), "eventType": "lead.created"}) == []
    assert reasons("crm.events", {**event("crm.events"), "eventType": "Lead Created"}) == [
        ("rule:pattern", "/eventType")
    ]


def test_an_event_from_before_2000_is_told_by_its_time() -> None:
    old = {**event("crm.leads"), "timestamp": datetime(1999, 12, 31, tzinfo=UTC)}
    assert reasons("crm.leads", old) == [("event_time_out_of_range", "/timestamp")]


def test_a_later_version_brings_an_extra_and_an_earlier_one_lacks_a_field() -> None:
    text = json.loads(avro_schema("crm.leads"))
    text["fields"].append({"name": "region", "type": "string", "default": ""})
    later = parsed(json.dumps(text))
    text["fields"] = [part for part in text["fields"] if part["name"] not in ("region", "metadata")]
    earlier = parsed(json.dumps(text))
    contract = CONTRACTS["crm.leads"]
    _, decide = judges((contract,), None, {1: later, 2: earlier, NUMBER: WRITERS["crm.leads"]}.get)[
        contract.topic
    ]
    assert decide is not None
    records = [
        framed(1, later, {**event("crm.leads"), "region": "north"}),
        framed(2, earlier, event("crm.leads")),
        raw("crm.leads", event("crm.leads")),
    ]
    sound, unsound = decide(records, [NOW_US] * 3)
    assert not unsound
    assert sound.columns["extras"] == ['{"/region":"north"}', None, None]
    assert [bool(text) for text in sound.columns["metadata"]] == [True, False, True]


@pytest.mark.parametrize("stream", STREAMS)
def test_rows_fit_the_columns_of_silver(stream: str) -> None:
    contract = CONTRACTS[stream]
    schema = arrow_schema(outcome_columns([contract], ["refined_at"]))
    work = Classifier((contract,), None, schema, _schema_of(stream))
    values = [raw(stream, event(stream)), b"nothing"]
    made = pa.Table.from_batches(list(work([arrow_bronze(values, topic=contract.topic)])))
    assert made["outcome"].to_pylist() == ["silver", "dead"]
    assert made["reasons"].to_pylist()[1][0]["code"] == "avro_mismatch"
