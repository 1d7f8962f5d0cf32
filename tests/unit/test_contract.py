"""Contracts: compiled from YAML, refused with file and line, and the JSON Schema that comes from them."""

from decimal import Decimal
from importlib import resources

import jsonschema_rs
import pytest

from headwater.errors import SetupError
from schemas.contract import Contract, Field, contracts, domain_contracts, json_schema, parse_contract, walk
from tests.builders import GONE, event

TEXT = (resources.files("schemas") / "contracts" / "lead.ingest.yaml").read_text(encoding="utf-8")
LEAD = contracts()["lead.ingest"]


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize("contract", contracts().values(), ids=contracts())
def test_every_contract_file_compiles_and_its_pointers_are_fields(contract: Contract) -> None:
    known = {field.pointer for field in contract.leaves}
    assert {contract.tenant_field, contract.event_time_field, *contract.dedupe_key} <= known
    assert contract.partitions > 0 and contract.retention_days > 0


@pytest.mark.parametrize("contract", contracts().values(), ids=contracts())
def test_every_field_says_what_it_is(contract: Contract) -> None:
    assert [field.pointer for field in walk(contract.fields) if not field.description] == []


def test_the_lead_contract_says_what_the_design_says() -> None:
    assert (LEAD.topic, LEAD.partitions, LEAD.format, LEAD.domain) == ("lead.ingest", 6, "json", "leads")
    assert (LEAD.tenant_field, LEAD.dedupe_key, LEAD.dedupe_window) == (
        "/tenant_id",
        ("/idempotency_key",),
        "7 days",
    )


def test_an_unknown_key_is_refused_with_file_and_line() -> None:
    text = changed("        required: true\n", "        requird: true\n")
    with pytest.raises(SetupError, match=rf"^x\.yaml:{line_of(text, 'requird')}: .*requird"):
        parse_contract(text, "x.yaml")


def test_an_unknown_custom_property_is_refused_by_name() -> None:
    text = changed("{property: format, value: json}", "{property: formt, value: json}")
    with pytest.raises(SetupError, match="unknown customProperty 'formt'"):
        parse_contract(text, "x.yaml")


def test_a_missing_custom_property_is_refused_by_name() -> None:
    text = changed("  - {property: dedupeWindow, value: 7 days}\n", "")
    with pytest.raises(SetupError, match="'dedupeWindow' is missing"):
        parse_contract(text, "x.yaml")


def test_a_pointer_to_no_field_is_refused() -> None:
    with pytest.raises(SetupError, match="/tenant is named by a customProperty but is no field"):
        parse_contract(changed("value: /tenant_id", "value: /tenant"), "x.yaml")


def test_what_identifies_or_dates_an_event_must_be_required() -> None:
    text = changed("value: /tenant_id", "value: /event_id")
    with pytest.raises(SetupError, match="/event_id identifies or dates an event and must be `required"):
        parse_contract(text, "x.yaml")


def test_an_unknown_type_is_refused_with_its_field() -> None:
    text = changed("logicalType: boolean", "logicalType: array")
    with pytest.raises(SetupError, match=r"payload\.consent has logicalType 'array'"):
        parse_contract(text, "x.yaml")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "logicalTypeOptions: {maxLength: 64, pattern",
            "logicalTypeOptions: {minLength: 1, pattern",
            "minLength is not",
        ),
        (
            "logicalTypeOptions: {format: uuid}",
            "logicalTypeOptions: {format: uuid}\n        enum: [{value: a}]",
            "instead of a pattern or format",
        ),
        ("logicalTypeOptions: {format: uuid}", "physicalType: epoch_ms", "a way to write a timestamp"),
        (
            "logicalType: string\n        logicalTypeOptions: {format: uuid}",
            "logicalType: number\n        logicalTypeOptions: {multipleOf: 0.5}",
            "multipleOf is 1, 0.1, 0.01 and so on",
        ),
    ],
)
def test_what_is_not_applied_is_refused(old: str, new: str, told: str) -> None:
    with pytest.raises(SetupError, match=told):
        parse_contract(changed(old, new), "x.yaml")


def test_bounds_lists_and_milliseconds_come_from_the_document() -> None:
    text = changed(
        "properties:",
        """properties:
      - {name: share, logicalType: number, logicalTypeOptions: {minimum: 0, maximum: 0.9}, description: s}
      - {name: status, logicalType: string, required: true, description: s, enum: [
          {value: ok}, {value: error}]}
      - {name: at_ms, logicalType: timestamp, physicalType: epoch_ms, description: s}""",
    )
    made = parse_contract(text, "x.yaml")
    share, status, at_ms = made.fields[:3]
    assert (share.minimum, share.maximum) == (Decimal(0), Decimal("0.9"))
    assert (status.values, at_ms.is_epoch) == (("ok", "error"), True)
    validator = jsonschema_rs.validator_for(json_schema(made))
    for given, valid in (
        ({"/status": "ok", "/share": 0.9, "/at_ms": 0}, True),
        ({"/status": "ok", "/share": None, "/at_ms": None}, True),
        ({"/status": "OK"}, False),
        ({"/status": None}, False),
        ({"/status": "ok", "/share": 0.91}, False),
        ({"/status": "ok", "/at_ms": "2026-03-01T00:00:00Z"}, False),
    ):
        assert validator.is_valid(event(given)) is valid, given


def test_an_unknown_domain_names_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"known domains: .*leads"):
        domain_contracts("nowhere")


def test_pointers_escape_slash_and_tilde() -> None:
    field = Field(("a/b", "c~d"), "string", False, None, None, None, False, "")
    assert field.pointer == "/a~1b/c~0d"


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"/unknown": 1, "/payload/unknown": {}}, True),
        ({"/payload/phone": None}, True),
        ({"/source": "x" * 50}, True),
        ({"/source": "x" * 51}, False),
        ({"/source": 5}, False),
        ({"/source": ""}, False),
        ({"/source": " \t"}, False),
        ({"/payload": None}, False),
        ({"/context": None}, True),
        ({"/context/utm": None}, True),
        ({"/payload/email": GONE}, False),
        ({"/payload/email": "ada@localhost"}, False),
        ({"/payload/consent": "true"}, False),
        ({"/context/utm/source": 5}, False),
    ],
)
def test_the_json_schema_takes_what_refine_takes(changes: dict[str, object], valid: bool) -> None:
    validator = jsonschema_rs.validator_for(json_schema(LEAD))
    assert validator.is_valid(event(changes)) is valid
