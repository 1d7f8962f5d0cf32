"""PostgreSQL's tables of the interactions, the sink's list of them, silver and gold say the same."""

from importlib import import_module

import pytest

from schemas.contract import domain_contracts
from schemas.gold import BILLING_USAGE, SESSION_KPIS
from schemas.tables import AGENT_TURNS, FRONTEND_INTERACTIONS, SILVER, Table
from sinks import postgres_tables
from sinks.postgres_tables import PostgresTable
from sinks.registry import SINKS
from transformations.kpi.registry import KPIS

revision = import_module("schemas.migrations.versions.0007_interactions")
OURS: dict[str, tuple[PostgresTable, Table]] = {
    "agent_turns": (postgres_tables.AGENT_TURNS, AGENT_TURNS),
    "frontend_analytics": (postgres_tables.FRONTEND_ANALYTICS, FRONTEND_INTERACTIONS),
    "session_kpis": (postgres_tables.SESSION_KPIS, SESSION_KPIS),
    "billing_usage": (postgres_tables.BILLING_USAGE, BILLING_USAGE),
}
PERSONAL = {
    field.name for c in domain_contracts("interactions").values() for field in c.leaves if field.personal
}


@pytest.mark.parametrize("name", OURS)
def test_the_sink_fills_every_column_that_the_database_does_not(name: str) -> None:
    table, _ = OURS[name]
    assert set(table.columns) == set(revision.TABLES[name]) - set(revision.BY_THE_DATABASE)
    assert tuple(table.key) == revision.KEYS[name]


@pytest.mark.parametrize("name", OURS)
def test_every_column_is_one_of_the_lake(name: str) -> None:
    table, source = OURS[name]
    assert {table.called.get(column, column) for column in table.columns} <= set(source.names)


@pytest.mark.parametrize("name", OURS)
def test_a_masked_view_shows_no_personal_column(name: str) -> None:
    shown = set(revision.TABLES[name]) - set(revision.OMITTED[name])
    assert shown & PERSONAL == set()


def test_the_key_of_a_gold_route_is_that_of_its_kpi() -> None:
    keys = {kpi.gold.name: kpi.key for kpi in KPIS.values()}
    routes = [route for destination in SINKS.values() for route in destination.routes if route.key]
    assert {route.table.name: route.key for route in routes} == {
        name: keys[name] for name in ("session_kpis", "billing_usage")
    }


def test_columns_of_gold_with_statistics_are_not_personal() -> None:
    tables = [*[kpi.gold for kpi in KPIS.values()], *SILVER.values()]
    for table in tables:
        assert {*table.statistics, *table.partitions} <= set(table.names), table.full_name
        assert PERSONAL & set(table.statistics) == set(), table.full_name
