"""Revision 0011 on a real server: who may do what, a trail that nobody changes, counts as the log has."""

from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import CheckViolation, InsufficientPrivilege

from headwater.postgres import Connection
from local.postgres import dsn
from sinks.postgres_events import LogSink
from tests.integration.crm_log import records
from tests.integration.outbox_harness import migrated_database, settings_of

revision = import_module("schemas.migrations.versions.0011_crm_control")
ASKED = "SELECT analytics.is_record_logged(%s, %s, %s, %s)"
COUNTED = "SELECT organization_id, processing_status, events FROM analytics.crm_event_counts ORDER BY 1, 2"
NOTED = (
    "INSERT INTO analytics.control_audit (actor, tenant_id, action, remote_addr, request_id, result)"
    " VALUES ('key:k1', 'acme', 'stop', '192.0.2.7', 'r-1', 'ok')"
)
ENTERED = (
    'INSERT INTO analytics.crm_enqueued (job_id, tenant_id, topic, partition, "offset", due_at)'
    " VALUES (gen_random_uuid(), 'acme', 'crm.leads', 0, 7, now())"
)
BEAT = "INSERT INTO analytics.query_states (query, domain, state) VALUES ('refine.crm', 'crm', 'running')"


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


def as_role(role: str, database: str) -> Connection:
    return psycopg.connect(dsn(f"headwater_{role}", f"postgres-{role}", database), autocommit=True)


def ask(database: str, role: str, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with closing(as_role(role, database)) as connection:
        cursor = connection.execute(query.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def log(database: str) -> LogSink:
    made = LogSink(settings_of(database), "test")
    made.setup()
    made.reset()
    return made


# Counts and the one question


def test_counts_grow_by_what_enters_the_log_and_by_nothing_else(log: LogSink, database: str) -> None:
    skipped = {"processing_status": "skipped"}
    batch = records({}, {}, skipped, {"tenant_id": "globex"}, {"tenant_id": None, **skipped})
    assert log.write(batch).inserted == 5
    assert log.write(batch).inserted == 0
    more = records({}, {}, skipped, {"tenant_id": "globex"}, {"tenant_id": None}, skipped)
    assert log.write(more).inserted == 1
    assert ask(database, "api", COUNTED) == [
        ("acme", "processed", 2),
        ("acme", "skipped", 2),
        ("globex", "processed", 1),
    ]


def test_rows_that_the_server_refuses_are_not_counted(log: LogSink, database: str) -> None:
    written = log.write(records({}, {"event_type": "x" * 51}, {}))
    assert (written.inserted, len(written.rejected)) == (2, 1)
    assert ask(database, "api", COUNTED) == [("acme", "processed", 2)]


def test_an_emptied_log_counts_from_nothing(log: LogSink, database: str) -> None:
    log.write(records({}, {}))
    log.reset()
    assert ask(database, "api", COUNTED) == []


def test_the_migration_counts_what_the_log_has(log: LogSink, database: str) -> None:
    log.write(records({}, {"processing_status": "failed"}, {"tenant_id": None}))
    before = ask(database, "owner", COUNTED)
    with closing(as_role("owner", database)) as owner, owner.transaction(force_rollback=True):
        owner.execute("DROP TABLE analytics.crm_event_counts")
        owner.execute(revision.COUNTS)
        assert owner.execute(COUNTED.encode()).fetchall() == before


def test_a_record_is_there_for_its_own_organization_alone(log: LogSink, database: str) -> None:
    log.write(records({}, {"tenant_id": None}))
    places = [("acme", "crm.leads", 0, 0), ("globex", "crm.leads", 0, 0), ("acme", "crm.leads", 1, 0),
              ("acme", "crm.events", 0, 0), ("acme", "crm.leads", 0, 2), ("acme", "crm.leads", 0, 1),
              (None, "crm.leads", 0, 1)]  # fmt: skip
    found = [ask(database, "api", ASKED, *place)[0][0] for place in places]
    assert found == [True, False, False, False, False, False, False]


# The trail


@pytest.mark.parametrize("role", ["owner", "postgres"])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE analytics.control_audit SET actor = 'nobody'",
        "DELETE FROM analytics.control_audit",
        "TRUNCATE analytics.control_audit",
        "DELETE FROM analytics.control_audit WHERE false",
    ],
)
def test_what_the_trail_has_nobody_changes(database: str, role: str, change: str) -> None:
    ask(database, "api", NOTED)
    secret = {"owner": "postgres-owner", "postgres": "postgres-superuser"}[role]
    name = "headwater_owner" if role == "owner" else "postgres"
    before = ask(database, "owner", "SELECT count(*) FROM analytics.control_audit")
    with closing(psycopg.connect(dsn(name, secret, database), autocommit=True)) as connection:
        if role == "postgres":
            connection.execute("SET session_replication_role = 'replica'")
        with pytest.raises(InsufficientPrivilege, match="append-only"):
            connection.execute(change.encode())
    assert ask(database, "owner", "SELECT count(*) FROM analytics.control_audit") == before


def test_the_trail_dates_its_entries_itself(database: str) -> None:
    forged = NOTED.replace("(actor,", "(at, actor,").replace("('key:k1',", "('2020-01-01', 'key:k1',")
    with pytest.raises(InsufficientPrivilege):
        ask(database, "api", forged)


# Roles


def test_a_domain_runs_unless_somebody_stopped_it_and_there_is_no_third_state(database: str) -> None:
    wished = "SELECT domain, desired, changed_by FROM analytics.domain_control"
    assert ask(database, "writer", wished) == [("crm", "running", None)]
    with pytest.raises(CheckViolation):
        ask(database, "api", "UPDATE analytics.domain_control SET desired = 'paused'")


ALLOWED = {
    "api": [
        "SELECT desired FROM analytics.domain_control",
        "UPDATE analytics.domain_control SET desired = desired, changed_at = now(), changed_by = 'key:k1'",
        "SELECT query, state FROM analytics.query_states",
        "SELECT events FROM analytics.crm_event_counts",
        ENTERED,
        "SELECT count(*) FROM analytics.crm_enqueued WHERE tenant_id = 'acme' AND status = 'waiting'",
        NOTED,
    ],
    "writer": [
        BEAT,
        "UPDATE analytics.query_states SET state = 'stopped', updated_at = now()",
        "SELECT job_id, topic FROM analytics.crm_enqueued",
        "UPDATE analytics.crm_enqueued SET status = 'failed', error = 'gone', done_at = now()",
        "DELETE FROM analytics.crm_enqueued WHERE done_at < now()",
    ],
}
REFUSED = {
    "reader": [
        "SELECT 1 FROM analytics.domain_control",
        "SELECT 1 FROM analytics.query_states",
        "SELECT 1 FROM analytics.crm_enqueued",
        "SELECT 1 FROM analytics.crm_event_counts",
        "SELECT 1 FROM analytics.control_audit",
        "SELECT analytics.is_record_logged('acme', 'crm.leads', 0, 0)",
    ],
    "writer": [
        "UPDATE analytics.domain_control SET desired = 'stopped'",
        "INSERT INTO analytics.domain_control (domain, desired) VALUES ('leads', 'stopped')",
        "DELETE FROM analytics.query_states",
        ENTERED,
        "UPDATE analytics.crm_enqueued SET tenant_id = 'globex'",
        "DELETE FROM analytics.crm_event_counts",
        "SELECT 1 FROM analytics.control_audit",
        NOTED,
        "SELECT analytics.is_record_logged('acme', 'crm.leads', 0, 0)",
    ],
    "api": [
        "SELECT 1 FROM analytics.crm_events_log",
        "INSERT INTO analytics.domain_control (domain, desired) VALUES ('leads', 'stopped')",
        "DELETE FROM analytics.domain_control",
        "UPDATE analytics.domain_control SET domain = 'leads'",
        BEAT,
        "UPDATE analytics.query_states SET state = 'running'",
        "SELECT job_id FROM analytics.crm_enqueued",
        "UPDATE analytics.crm_enqueued SET status = 'done'",
        "DELETE FROM analytics.crm_enqueued",
        "UPDATE analytics.crm_event_counts SET events = 0",
        "SELECT 1 FROM analytics.control_audit",
        "UPDATE analytics.control_audit SET actor = 'nobody'",
        "DELETE FROM analytics.control_audit",
        "TRUNCATE analytics.control_audit",
        "ALTER TABLE analytics.control_audit DISABLE TRIGGER ALL",
    ],
}


@pytest.mark.parametrize(("role", "statement"), [(r, s) for r, all_ in ALLOWED.items() for s in all_])
def test_a_role_may_do_what_its_work_needs(database: str, role: str, statement: str) -> None:
    with closing(as_role(role, database)) as connection, connection.transaction(force_rollback=True):
        connection.execute(sql.SQL(statement))  # type: ignore[arg-type]  # texts of this file


@pytest.mark.parametrize(("role", "statement"), [(r, s) for r, all_ in REFUSED.items() for s in all_])
def test_a_role_is_refused_the_rest(database: str, role: str, statement: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        ask(database, role, statement)
