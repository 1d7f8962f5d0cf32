"""What PostgreSQL's roles hold over every table and view there is: nothing beyond this list."""

from collections.abc import Iterator

import psycopg
import pytest

from local.postgres import dsn
from tests.integration.outbox_harness import migrated_database

# The writer's rights are tried sink by sink.
HELD = """
SELECT n.nspname || '.' || c.relname, array_agg(p ORDER BY p)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
  unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) p
WHERE n.nspname IN ('public', 'staging', 'analytics') AND c.relkind IN ('r', 'p', 'v', 'm')
  AND (has_table_privilege(%(role)s, c.oid, p) OR p = ANY (%(columns)s)
    AND has_any_column_privilege(%(role)s, c.oid, p))
GROUP BY 1
"""
CREATES = """
SELECT count(*) FROM pg_namespace
WHERE nspname IN ('public', 'staging', 'analytics') AND has_schema_privilege(%s, oid, 'CREATE')
"""
API = {
    # The columns by which a job is cancelled.
    "public.ingestion_jobs": ["INSERT", "SELECT", "UPDATE"],
    "public.validation_errors": ["SELECT"],
    "analytics.control_audit": ["INSERT"],
    "analytics.crm_enqueued": ["INSERT", "SELECT"],
    "analytics.crm_event_counts": ["SELECT"],
    "analytics.domain_control": ["SELECT", "UPDATE"],
    "analytics.query_states": ["SELECT"],
    # A plan is approved by a function.
    "analytics.replays": ["INSERT", "SELECT"],
}


@pytest.fixture(scope="module")
def owner() -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    with migrated_database() as name:
        with psycopg.connect(dsn("headwater_owner", "postgres-owner", name)) as connection:
            yield connection


def held(owner: psycopg.Connection[tuple[object, ...]], role: str) -> dict[object, object]:
    values = {"role": f"headwater_{role}", "columns": ["SELECT", "INSERT", "UPDATE", "REFERENCES"]}
    return dict(owner.execute(HELD, values).fetchall())  # type: ignore[arg-type]


def test_the_api_holds_what_imports_and_control_of_the_crm_need(
    owner: psycopg.Connection[tuple[object, ...]],
) -> None:
    assert held(owner, "api") == API


def test_analysts_hold_reading_of_masked_views_and_nothing_else(
    owner: psycopg.Connection[tuple[object, ...]],
) -> None:
    found = held(owner, "reader")
    assert "public.leads_masked" in found and "analytics.crm_leads_staging_masked" in found
    assert {name: rights for name, rights in found.items() if not str(name).endswith("_masked")} == {}
    assert {str(rights) for rights in found.values()} == {"['SELECT']"}


def test_the_registry_holds_nothing_here(owner: psycopg.Connection[tuple[object, ...]]) -> None:
    assert held(owner, "registry") == {}


@pytest.mark.parametrize(("role", "schemas"), [("api", 0), ("reader", 0), ("registry", 0), ("writer", 1)])
def test_only_the_writer_makes_tables_and_in_staging_alone(
    owner: psycopg.Connection[tuple[object, ...]], role: str, schemas: int
) -> None:
    assert owner.execute(CREATES, (f"headwater_{role}",)).fetchone() == (schemas,)


def test_no_role_of_ours_may_make_roles_or_databases_or_pass_row_security(
    owner: psycopg.Connection[tuple[object, ...]],
) -> None:
    mighty = owner.execute(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'headwater%' AND (rolsuper OR rolcreaterole"
        " OR rolcreatedb OR rolreplication OR rolbypassrls)"
    )
    assert mighty.fetchall() == []
