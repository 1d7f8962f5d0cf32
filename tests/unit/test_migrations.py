"""Postgres columns and Elasticsearch mapping say the same as schemas/tables.py and the contract."""

import json
import re
from importlib import import_module, resources

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from schemas.contract import contracts
from schemas.tables import LEADS, LINEAGE
from sinks.postgres import LEAD_COLUMNS

revision = import_module("schemas.migrations.versions.0001_leads")
SILVER = dict(entry.split()[:2] for entry in LEADS.columns.split(","))
KEPT_OF_LINEAGE = {"tenant_id", "row_version"}
SAME_TYPE = {
    "STRING": ("VARCHAR", "TEXT", "UUID", "INET", "JSONB"),
    "TIMESTAMP": ("TIMESTAMPTZ",),
    "BOOLEAN": ("BOOLEAN",),
    "BIGINT": ("BIGINT",),
}
ELASTIC_TYPE = {"STRING": ("keyword", "text"), "TIMESTAMP": ("date",), "BIGINT": ("long",)}


def mapping() -> dict[str, dict[str, str]]:
    text = (resources.files("schemas") / "elasticsearch" / "leads.json").read_text(encoding="utf-8")
    fields: dict[str, dict[str, str]] = json.loads(text)["mappings"]["properties"]
    return fields


def test_postgres_leads_has_silvers_columns_and_its_own_two_times() -> None:
    lineage = {entry.split()[0] for entry in LINEAGE.split(",")} - KEPT_OF_LINEAGE
    assert set(revision.LEADS) - set(revision.BY_THE_DATABASE) == set(SILVER) - lineage


def test_the_sink_writes_every_column_that_the_database_does_not_fill() -> None:
    assert set(LEAD_COLUMNS) == set(revision.LEADS) - set(revision.BY_THE_DATABASE)


@pytest.mark.parametrize("name", LEAD_COLUMNS)
def test_a_postgres_column_has_silvers_type(name: str) -> None:
    assert revision.LEADS[name].startswith(SAME_TYPE[SILVER[name]])


def test_a_column_is_as_long_as_the_contract_allows() -> None:
    lengths = {}
    for field in contracts()["lead.ingest"].leaves:
        name = f"utm_{field.name}" if "utm" in field.path else field.name
        declared = re.match(r"VARCHAR\((\d+)\)", revision.LEADS.get(name, ""))
        if field.max_length or declared:
            lengths[name] = (field.max_length, int(declared[1]) if declared else None)
    assert lengths
    assert {name: pair for name, pair in lengths.items() if pair[0] != pair[1]} == {}


def test_the_masked_view_shows_no_personal_column_as_it_is() -> None:
    personal = {field.name for field in contracts()["lead.ingest"].leaves if field.personal}
    plain = set(revision.LEADS) - set(revision.MASKED) - set(revision.OMITTED)
    assert plain & personal == set()
    assert "idempotency_key" not in plain


def test_elasticsearch_maps_columns_of_silver_with_their_types() -> None:
    fields = {name: entry["type"] for name, entry in mapping().items() if name != "doc_key"}
    assert set(fields) <= set(SILVER)
    assert {n: kind for n, kind in fields.items() if kind not in ELASTIC_TYPE[SILVER[n]]} == {}


def test_elasticsearch_maps_what_the_runbook_lists() -> None:
    keywords = "id event_id source email phone submission_type geo_country geo_city utm_campaign".split()
    wanted = dict.fromkeys(keywords, "keyword") | dict.fromkeys(
        ["first_name", "last_name", "message"], "text"
    )
    wanted["received_at"] = "date"
    assert {name: mapping()[name]["type"] for name in wanted} == wanted


def test_revisions_form_one_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(resources.files("schemas") / "migrations"))
    config.set_main_option("path_separator", "os")
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1
