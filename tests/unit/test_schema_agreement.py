"""One contract, many forms: the columns of silver, PostgreSQL, Elasticsearch and the JSON Schema."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from schemas.contract import Contract, Field, contracts, json_schema
from schemas.tables import DEAD_LETTERS, JOB_RUNS, LEADS, LEDGER, LINEAGE, SILVER, Table, bronze

ROOT = Path(__file__).resolve().parents[2]
LEAD = contracts()["lead.ingest"]
POSTGRES: dict[str, str] = import_module("schemas.migrations.versions.0001_leads").LEADS
BY_THE_DATABASE = {"created_at", "updated_at"}
# Columns of silver.leads that are made, not sent; and fields that go into other columns.
MADE = {"id", "geo_country", "geo_city", "device", "browser", "os"}
READ_ONLY = {"page_url"}


def columns(table: Table) -> dict[str, str]:
    """Name → type; commas inside of angle brackets do not separate."""
    parts, depth = [""], 0
    for letter in table.columns:
        depth += (letter == "<") - (letter == ">")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return dict(part.split(maxsplit=1) for part in parts)


def column_of(field: Field) -> str:
    return f"utm_{field.name}" if "utm" in field.path[:-1] else field.name


JSON = {name: contract for name, contract in contracts().items() if contract.format == "json"}


@pytest.mark.parametrize("contract", JSON.values(), ids=JSON)
def test_the_json_schema_for_producers_is_the_one_that_the_contract_makes(contract: Contract) -> None:
    path = ROOT / "schemas" / "events" / f"{contract.stream}.schema.json"
    remedy = "run `python -m schemas export`"
    assert path.is_file(), remedy
    assert json.loads(path.read_text(encoding="utf-8")) == json_schema(contract), remedy


def test_every_field_of_the_lead_contract_has_its_column_in_silver() -> None:
    fields = {column_of(field) for field in LEAD.leaves} - READ_ONLY
    assert fields | MADE == columns(LEADS).keys() - lineage()


def lineage() -> set[str]:
    return {part.split()[0] for part in LINEAGE.strip().split(",")} - {"tenant_id"}


def test_silver_leads_has_the_columns_of_postgres_leads_and_lineage() -> None:
    assert columns(LEADS).keys() - lineage() == POSTGRES.keys() - BY_THE_DATABASE - {"row_version"}
    assert "row_version" in POSTGRES


@pytest.mark.parametrize(
    "field",
    [field for field in LEAD.leaves if "VARCHAR" in POSTGRES.get(column_of(field), "")],
    ids=lambda field: field.pointer,
)
def test_the_contracts_lengths_are_those_of_postgres(field: Field) -> None:
    assert POSTGRES[column_of(field)].split()[0] == f"VARCHAR({field.max_length})"


def test_a_field_without_length_goes_into_a_column_without_one() -> None:
    free = [column_of(f) for f in LEAD.leaves if f.kind == "string" and f.max_length is None]
    kinds = {POSTGRES[name].split()[0] for name in free if name not in READ_ONLY}
    assert kinds <= {"TEXT", "INET", "UUID"}


def test_what_the_contract_requires_postgres_requires_too() -> None:
    required = {column_of(field) for field in LEAD.leaves if field.required and field.kind != "boolean"}
    assert [name for name in required if "NOT NULL" not in POSTGRES[name]] == []


def test_elasticsearchs_fields_are_columns_of_silver() -> None:
    mapping = json.loads((ROOT / "schemas" / "elasticsearch" / "leads.json").read_text(encoding="utf-8"))
    assert mapping["mappings"]["properties"].keys() - {"doc_key"} <= columns(LEADS).keys()


@pytest.mark.parametrize(
    "table", [LEADS, DEAD_LETTERS, LEDGER, JOB_RUNS, bronze("leads")], ids=lambda table: table.full_name
)
def test_statistics_and_partitions_name_columns_of_the_table(table: Table) -> None:
    assert {*table.statistics, *table.partitions} <= columns(table).keys()


def test_no_personal_column_has_statistics() -> None:
    personal = {column_of(field) for field in LEAD.leaves if field.personal} | {"idempotency_key", "extras"}
    assert personal & set(LEADS.statistics) == set()
    assert {"payload", "headers", "key", "value"} & {
        *DEAD_LETTERS.statistics,
        *bronze("x").statistics,
    } == set()


def test_every_stream_has_a_silver_table_that_ends_with_the_lineage() -> None:
    assert SILVER.keys() == contracts().keys()
    for table in SILVER.values():
        assert table.columns.endswith(LINEAGE)
