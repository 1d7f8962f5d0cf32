"""PostgreSQL's tables of the CRM, the sink's list of them, and silver say the same."""

from importlib import import_module

import pytest

from schemas.contract import Field, domain_contracts
from schemas.tables import CRM_CONTACTS, CRM_LEADS, CRM_OPPORTUNITIES, Table
from sinks import postgres_tables
from sinks.postgres_tables import PostgresTable

revision = import_module("schemas.migrations.versions.0009_crm")
STAGING: dict[str, tuple[PostgresTable, Table]] = {
    "crm_leads_staging": (postgres_tables.CRM_LEADS, CRM_LEADS),
    "crm_contacts_staging": (postgres_tables.CRM_CONTACTS, CRM_CONTACTS),
    "crm_opportunities_staging": (postgres_tables.CRM_OPPORTUNITIES, CRM_OPPORTUNITIES),
}
OURS = [table for table, _ in STAGING.values()] + [postgres_tables.CRM_LOG]
BY_THE_DATABASE = {"id", "processed_at", "ingestion_id"}
STREAMS = {"crm_leads": "crm.leads", "crm_contacts": "crm.contacts", "crm_opportunities": "crm.opportunities"}


@pytest.mark.parametrize("table", OURS, ids=lambda table: table.name)
def test_the_sink_fills_every_column_that_the_database_does_not(table: PostgresTable) -> None:
    assert set(table.columns) == set(revision.TABLES[table.name]) - BY_THE_DATABASE
    assert tuple(table.key) == revision.KEYS[table.name]
    assert table.schema == "analytics"


@pytest.mark.parametrize("name", STAGING)
def test_every_column_is_one_of_silver(name: str) -> None:
    table, source = STAGING[name]
    assert {table.called.get(column, column) for column in table.columns} <= set(source.names)


@pytest.mark.parametrize("name", STAGING)
def test_a_contract_allows_no_text_that_its_column_refuses(name: str) -> None:
    contract = domain_contracts("crm")[STREAMS[STAGING[name][1].name]]
    kinds = revision.TABLES[name]
    own = {field.name: field for field in contract.leaves if field.path[0] == "data"}
    for column, field in _columns(own).items():
        if "VARCHAR" in kinds.get(column, "") and column != "organization_id":
            assert kinds[column].split()[0] == f"VARCHAR({field.max_length})", column


def _columns(fields: dict[str, Field]) -> dict[str, Field]:
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): f for name, f in fields.items()}


@pytest.mark.parametrize("name", STAGING)
def test_a_masked_view_shows_no_personal_column(name: str) -> None:
    contracts = domain_contracts("crm").values()
    personal = _columns({f.name: f for c in contracts for f in c.leaves if f.personal and f.name != "data"})
    assert personal.keys() & revision.TABLES[name].keys() <= set(revision.OMITTED)
