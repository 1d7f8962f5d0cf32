"""Suites: what a contract asks becomes expectations, hand-written ones are checked to the line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import SetupError
from headwater.settings import load_settings
from schemas.comments import lake_tables, personal_columns
from schemas.contract import contracts
from schemas.expectation_files import TYPES, parse_file, suites
from schemas.expectations import GATE, WARN, Expectation, contract_expectations, table_suite
from schemas.gold import BILLING_DAILY
from schemas.tables import CRM_LEADS, LEADS, SILVER, USAGE

FILE = "silver.leads.yaml"
NOT_NULL = "expectations:\n- {expect: expect_column_values_to_not_be_null"


def of(found: tuple[Expectation, ...], column: str) -> dict[str, dict[str, Any]]:
    """Type → its arguments, of one column."""
    return {
        one.type.removeprefix("expect_column_"): {k: v for k, v in one.kwargs.items() if k != "column"}
        for one in found
        if one.column == column
    }


def test_a_contracts_fields_become_expectations_of_their_columns() -> None:
    usage = contract_expectations(contracts()["billing.usage.metered"], USAGE)
    assert of(usage, "metric") == {
        "values_to_not_be_null": {},
        "value_lengths_to_be_between": {"max_value": 100},
        "values_to_match_regex": {"regex": "^[a-z][a-z0-9_]*$"},
    }
    assert of(usage, "quantity")["values_to_be_between"] == {"min_value": 0, "max_value": 1_000_000_000}
    assert of(usage, "unit") == {"value_lengths_to_be_between": {"max_value": 50}}
    # The tenant's field has another name in silver.
    assert of(usage, "tenant_id")["value_lengths_to_be_between"] == {"max_value": 64}


def test_of_two_fields_with_a_columns_name_the_outer_one_is_meant() -> None:
    found = contract_expectations(contracts()["crm.leads"], CRM_LEADS)
    assert list(of(found, "id")) == ["values_to_match_regex"]  # a uuid, and not required
    assert set(of(found, "event_type")["values_to_be_in_set"]["value_set"]) == {
        "lead.created", "lead.updated", "lead.converted",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "severity"), [("lead.ingest", WARN), ("billing.usage.metered", GATE)], ids=str
)
def test_identities_are_a_gate_only_where_they_are_unique_for_ever(stream: str, severity: str) -> None:
    found = contract_expectations(contracts()[stream], SILVER[stream])
    (key,) = [one for one in found if one.column.startswith("tenant_id, ")]
    assert key.severity == severity


def test_every_table_of_silver_has_a_suite_of_columns_that_it_has() -> None:
    found = suites(load_settings("staging").quality.suites)
    by_name = {table.full_name: table for table in lake_tables()}
    assert {name for name, table in by_name.items() if table.layer == "silver"} <= found.keys()
    for name, suite in found.items():
        for one in suite.expectations:
            assert one.type in TYPES
            if one.holds is None:
                written = {"expect": one.type, **one.kwargs}
                parse_file(json.dumps({"expectations": [written]}), name, by_name[name])
            if one.holds is None and one.column:
                assert set(one.column.split(", ")) <= set(by_name[name].names), (name, one)


def test_what_a_file_says_of_the_same_takes_the_place_of_the_contracts() -> None:
    text = "expectations: [{expect: expect_column_values_to_not_be_null, column: email, severity: warn}]"
    suite = table_suite(LEADS, parse_file(text, FILE, LEADS), FILE)
    assert suite
    assert suite.name == f"lead.ingest@{contracts()['lead.ingest'].version}+{FILE}"
    (email,) = [
        e for e in suite.expectations if e.subject == ("expect_column_values_to_not_be_null", "email")
    ]
    assert email.severity == WARN


def test_a_rule_is_true_of_every_row() -> None:
    (rule,) = parse_file("rules: [{rule: agreed, holds: consent}]", FILE, LEADS)
    assert (rule.type, rule.kwargs) == (
        "expect_column_values_to_be_in_set",
        {"column": "rule_agreed", "value_set": [True]},
    )
    assert (rule.holds, rule.severity) == ("consent", GATE)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("expectations: []", 1, "less than 1 item"),
        ("expectation: []", 1, "expectation"),
        ("expectations:\n- {expect: expect_nothing, column: email}", 2, "expect_nothing"),
        (NOT_NULL + ",\n   column: e, colum: x}", 3, "colum"),
        (NOT_NULL + "}", 2, "needs column"),
        (NOT_NULL + ", column: mail}", 2, "has no column mail"),
        (
            "expectations:\n- {expect: expect_column_values_to_be_between, column: consent}",
            2,
            "needs min_value",
        ),
        (NOT_NULL + ", column: id, regex: x}", 2, "no regex"),
        (NOT_NULL.replace("not_be_null", "match_regex") + ", column: consent, regex: x}", 2, "is BOOLEAN"),
        (NOT_NULL.replace("not_be_null", "be_between") + ", column: email, max_value: 3}", 2, "is STRING"),
        (NOT_NULL.replace("not_be_null", "be_in_set") + ", column: source, value_set: [1]}", 2, "is STRING"),
        (
            NOT_NULL.replace("not_be_null", "be_in_set") + ", column: row_version, value_set: [true]}",
            2,
            "BIGINT",
        ),
        ("rules:\n- {rule: Agreed, holds: consent}", 2, "Agreed"),
        ("rules:\n- {rule: a, holds: consent}\n- {rule: a, holds: consent}", 3, "said twice"),
        ("rules:\n- {rule: a, holds: consent, severity: fatal}", 2, "fatal"),
        ("rules:\n- {rule: a, rule: b, holds: consent}", 2, "twice"),
        ("rules: [", 1, ""),
    ],
)
def test_a_fault_in_a_file_is_told_with_its_line(text: str, line: int, why: str) -> None:
    with pytest.raises(SetupError, match=rf"^{FILE}:{line}: .*{re.escape(why)}"):
        parse_file(text, FILE, LEADS)


@pytest.mark.parametrize("column", ["email", "phone", "message"])
def test_what_shows_values_is_not_asked_of_personal_columns(column: str) -> None:
    assert column in personal_columns()
    text = f"expectations: [{{expect: expect_column_min_to_be_between, column: {column}, min_value: a}}]"
    with pytest.raises(SetupError, match="would show values"):
        parse_file(text, FILE, LEADS)


def test_of_a_table_without_a_contract_only_files_say_something(tmp_path: Path) -> None:
    assert table_suite(BILLING_DAILY) is None
    assert BILLING_DAILY.full_name not in suites(tmp_path)


def test_a_file_of_no_table_and_a_folder_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"quality\.expectations"):
        suites(tmp_path / "nowhere")
    (tmp_path / "silver.lead.yaml").write_text("rules: [{rule: a, holds: a}]")
    with pytest.raises(SetupError, match=r"the lake has no table silver\.lead"):
        suites(tmp_path)
