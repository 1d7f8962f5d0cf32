"""Control of the CRM over HTTP: who may, what is kept of it, what a tenant sees and what it does not."""

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.schema_registry import SchemaRegistry
from headwater.postgres import Connection
from headwater.settings import Settings
from jobs.control import ControlTables, Told
from local.postgres import dsn
from sinks.postgres_events import LogSink
from tests.integration.api_server import (
    ISSUER,
    ApiServer,
    forwarding,
    free_port,
    mint,
    running_api,
)
from tests.integration.crm_log import records
from tests.integration.outbox_harness import migrated_database, settings_of

PREFIX = "/api/v1/crm-ingestion"
ACTIONS, LOOKS = ("start", "stop", "enqueue"), ("status", "metrics")
JOB = {"topic": "crm.leads", "partition": 0, "offset": 0}
TRAIL = (
    "SELECT actor, tenant_id, action, detail, host(remote_addr), request_id, result"
    " FROM analytics.control_audit ORDER BY id"
)
Entry = tuple[str, str, str, dict[str, Any], str, str, str]


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        yield settings_of(name)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with serving(tmp_path_factory.mktemp("api"), settings.postgres.api_dsn) as server:
        yield server


@contextmanager
def serving(folder: Path, api_dsn: str, **more: str) -> Iterator[ApiServer]:
    with running_api(folder, HEADWATER_POSTGRES__API_DSN=api_dsn, **more) as server:
        yield server


@pytest.fixture
def owner(settings: Settings) -> Iterator[Connection]:
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    with closing(
        psycopg.connect(dsn("headwater_owner", "postgres-owner", database), autocommit=True)
    ) as made:
        made.execute("TRUNCATE analytics.crm_enqueued, analytics.query_states")
        yield made


def token(api: ApiServer, scope: str, subject: str = "ada", tenant: str | None = None) -> dict[str, str]:
    """Headers of a caller with a bearer token."""
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": "headwater-api", "sub": subject, "tenant_id": tenant or api.tenant,
        "scope": scope, "iat": now, "exp": now + 300,
    }  # fmt: skip
    return {"Authorization": f"Bearer {mint(api.signing_key, claims)}"}


def ask(api: ApiServer, name: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    method = "GET" if name in LOOKS else "POST"
    if name == "enqueue" and not more.keys() & {"json", "content"}:
        more["json"] = JOB
    chosen = {"X-API-Key": api.key} if headers is None else headers
    return httpx.request(method, f"{api.url}{PREFIX}/{name}", headers=chosen, timeout=30, **more)


def trail(owner: Connection) -> list[Entry]:
    return owner.execute(TRAIL.encode()).fetchall()


def logged(settings: Settings, *rows: dict[str, Any]) -> None:
    """Empty the log and fill it with these records, at offsets 0, 1, 2 of crm.leads' partition 0."""
    sink = LogSink(settings, "test")
    sink.setup()
    sink.reset()
    sink.write(records(*rows))


def test_stop_and_start_are_wished_and_kept_with_who_when_and_from_where(
    api: ApiServer, owner: Connection
) -> None:
    before = len(trail(owner))
    stopped = ask(api, "stop", {"X-API-Key": api.key, "X-Request-Id": "r-stop"})
    wished = (
        "SELECT desired, changed_by FROM analytics.domain_control WHERE changed_at > now() - interval '1m'"
    )
    name = f"key:writer{api.tenant}"
    assert (stopped.status_code, stopped.json()) == (202, {"desired": "stopped"})
    assert owner.execute(wished.encode()).fetchall() == [("stopped", name)]
    started = ask(api, "start", token(api, "crm:control", "ada@example.com") | {"X-Request-Id": "r-start"})
    assert (started.status_code, started.json()) == (202, {"desired": "running"})
    assert owner.execute(wished.encode()).fetchall() == [("running", "jwt:ada@example.com")]
    assert trail(owner)[before:] == [
        (name, api.tenant, "stop", {}, "127.0.0.1", "r-stop", "ok"),
        ("jwt:ada@example.com", api.tenant, "start", {}, "127.0.0.1", "r-start", "ok"),
    ]
    assert "ada@example.com" not in api.logged(started)


def test_a_record_of_the_tenants_own_is_enqueued(
    api: ApiServer, settings: Settings, owner: Connection
) -> None:
    logged(settings, {"tenant_id": api.tenant})
    answer = ask(api, "enqueue", json=JOB | {"delay": 90_000})
    assert answer.status_code == 202
    rows = owner.execute(
        'SELECT job_id::text, tenant_id, topic, partition, "offset", status,'
        " due_at - created_at FROM analytics.crm_enqueued"
    ).fetchall()
    ((job_id, *place, delay),) = rows
    assert (job_id, place) == (answer.json()["job_id"], [api.tenant, "crm.leads", 0, 0, "waiting"])
    assert delay.total_seconds() == 90
    *_, last = trail(owner)
    assert last[2:4] == ("enqueue", JOB | {"delay": 90_000, "job_id": job_id}) and last[6] == "ok"
    assert ask(api, "metrics").json()["queue_depth"] == 1


def test_another_tenants_record_and_one_that_is_not_there_are_the_same_404(
    api: ApiServer, settings: Settings, owner: Connection
) -> None:
    logged(settings, {"tenant_id": "globex"}, {"tenant_id": None})
    answers = [ask(api, "enqueue", json=JOB | {"offset": offset}) for offset in (0, 1, 2, 2**53 - 1)]
    said = {json.dumps(a.json() | {"request_id": ""}) for a in answers}
    assert ({a.status_code for a in answers}, len(said)) == ({404}, 1)
    assert [entry[6] for entry in trail(owner)[-4:]] == ["not_found"] * 4
    assert owner.execute("SELECT count(*) FROM analytics.crm_enqueued").fetchone() == (0,)
    theirs = ask(api, "enqueue", token(api, "crm:control", tenant="globex"))
    assert theirs.status_code == 202


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {("/topic", "missing_required"), ("/partition", "missing_required"),
              ("/offset", "missing_required")}),
        (JOB | {"topic": "lead.ingest"}, {("/topic", "rule:enum")}),
        (JOB | {"topic": ["crm.leads"], "offset": True}, {("/topic", "type_mismatch"),
                                                          ("/offset", "type_mismatch")}),
        (JOB | {"partition": 3, "delay": 86_400_001}, {("/partition", "rule:maximum"),
                                                       ("/delay", "rule:maximum")}),
        (JOB | {"partition": -1, "offset": 2**53}, {("/partition", "rule:minimum"),
                                                    ("/offset", "rule:maximum")}),
        (JOB | {"offset": 10**400, "delay": None}, {("/offset", "type_mismatch"),
                                                    ("/delay", "type_mismatch")}),
        (JOB | {"offset": 1.5, "a/b~": 1}, {("/offset", "type_mismatch"), ("/a~1b~0", "rule:unknown_field")}),
        ([], {("", "type_mismatch")}),
    ],
)  # fmt: skip
def test_every_fault_of_a_job_is_named(
    api: ApiServer, owner: Connection, body: Any, faults: set[tuple[str, str]]
) -> None:
    answer = ask(api, "enqueue", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    found = answer.json()
    assert found["code"] == "invalid_job"
    assert {(fault["field"], fault["code"]) for fault in found["errors"]} == faults
    assert trail(owner)[-1][2:] == ("enqueue", {}, "127.0.0.1", found["request_id"], "invalid_job")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"", 400, "empty"),
        (b'{"topic":"' + b"x" * 4096 + b'"}', 413, "too_large"),
    ],
    ids=["cut", "empty", "large"],
)
def test_what_is_no_job_at_all_is_refused_and_kept_in_mind(
    api: ApiServer, owner: Connection, content: bytes, status: int, code: str
) -> None:
    headers = {"X-API-Key": api.key, "Content-Type": "application/json"}
    answer = ask(api, "enqueue", headers, content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert trail(owner)[-1][6] == code


@pytest.mark.parametrize("name", [*ACTIONS, *LOOKS])
def test_an_unknown_caller_is_401_and_leaves_no_trace(api: ApiServer, owner: Connection, name: str) -> None:
    before = len(trail(owner))
    wrong = token(api, "crm:read crm:control")["Authorization"][:-4] + "AAAA"
    for headers in ({}, {"X-API-Key": f"hw_nobody_{secrets.token_urlsafe(24)}"}, {"Authorization": wrong}):
        assert ask(api, name, headers).status_code == 401
    assert len(trail(owner)) == before


@pytest.mark.parametrize("name", [*ACTIONS, *LOOKS])
def test_a_caller_without_the_scope_is_403_and_one_with_it_alone_may(
    api: ApiServer, owner: Connection, settings: Settings, name: str
) -> None:
    logged(settings, {"tenant_id": api.tenant})
    mine, other = ("crm:read", "crm:control") if name in LOOKS else ("crm:control", "crm:read")
    before = len(trail(owner))
    refused = ask(api, name, token(api, other, "eve"))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    expected = [] if name in LOOKS else [("jwt:eve", name, "forbidden")]
    assert [(e[0], e[2], e[6]) for e in trail(owner)[before:]] == expected
    assert ask(api, name, token(api, mine)).status_code == (200 if name in LOOKS else 202)


@pytest.mark.parametrize("name", [*ACTIONS, *LOOKS])
def test_a_query_parameter_that_is_not_known_is_422(api: ApiServer, owner: Connection, name: str) -> None:
    before = len(trail(owner))
    assert ask(api, name, params={"force": "1"}).json()["code"] == "invalid_parameter"
    assert [e[6] for e in trail(owner)[before:]] == ([] if name in LOOKS else ["invalid_parameter"])


def test_a_subject_that_no_database_stores_is_kept_all_the_same(api: ApiServer, owner: Connection) -> None:
    assert ask(api, "start", token(api, "crm:control", "a\0b' --")).status_code == 202
    assert trail(owner)[-1][0] == "jwt:a\ufffdb' --"


def test_metrics_are_the_tenants_own(api: ApiServer, settings: Settings, owner: Connection) -> None:
    mine = {"tenant_id": api.tenant}
    ends = ("processed", "processed", "skipped", "failed")
    rows = [{**mine, "processing_status": end} for end in ends]
    logged(settings, *rows, {"tenant_id": "globex"}, {"tenant_id": None})
    told = ControlTables(settings)
    told.tell([Told("ingest.crm", "crm", "running", 4, None, 12.5), Told("refine.crm", "crm", "running")])
    told.tell([Told("deliver.crm.log", "crm", "running", None, None, 250.0)])
    told.close()
    assert ask(api, "metrics").json() == {
        "processed": 2, "skipped": 1, "errors": 1, "processing_ms_p95": 250.0, "queue_depth": 0,
    }  # fmt: skip
    nobody = ask(api, "metrics", token(api, "crm:read", tenant="initech")).json()
    assert [nobody[name] for name in ("processed", "skipped", "errors", "queue_depth")] == [0, 0, 0, 0]


AGE = "UPDATE analytics.query_states SET updated_at = now() - %s::interval WHERE query = %s"


def test_status_says_what_is_wanted_and_what_is(
    api: ApiServer, settings: Settings, owner: Connection
) -> None:
    told = ControlTables(settings)

    def shown(*states: str, silent: str | None = None) -> tuple[str, list[str]]:
        told.tell([Told(f"q{n}.crm", "crm", state, n) for n, state in enumerate(states)])
        if silent:
            owner.execute(AGE.encode(), (silent, "q0.crm"))
        found = ask(api, "status").json()
        return found["actual"], [query["state"] for query in found["queries"]]

    assert ask(api, "status").json() == {"desired": "running", "actual": "stopped", "queries": []}
    assert shown("running", "running") == ("running", ["running", "running"])
    assert shown("stopped", "stopping") == ("changing", ["stopped", "stopping"])
    assert shown("stopped", "stopped") == ("stopped", ["stopped", "stopped"])
    assert shown("running", "running", silent="16 s") == ("changing", ["lost", "running"])
    assert shown("stopped", "running", silent="16 s") == ("changing", ["stopped", "running"])
    assert shown("running", "failed", silent="16 s") == ("stopped", ["lost", "failed"])
    assert shown("running", "running", silent="25 h") == ("running", ["running"])
    told.close()
    ask(api, "stop")
    found = ask(api, "status").json()
    assert (found["desired"], found["queries"]) == (
        "stopped",
        [{"name": "q1.crm", "state": "running", "lag": 1, "last_batch_at": None}],
    )
    ask(api, "start")


def test_who_is_too_fast_is_429_and_leaves_no_trace(
    settings: Settings, owner: Connection, tmp_path: Path
) -> None:
    slow = {"HEADWATER_API__RATE_PER_SECOND": "1", "HEADWATER_API__RATE_BURST": "2"}
    with serving(tmp_path, settings.postgres.api_dsn, **slow) as server:
        before = len(trail(owner))
        reader = token(server, "crm:read", "eve")
        answers = [ask(server, "stop", reader) for _ in range(6)]
        counts = [answer.status_code for answer in answers]
        assert set(counts) == {403, 429}
        assert all("retry-after" in a.headers for a in answers if a.status_code == 429)
        assert len(trail(owner)) - before == counts.count(403) < 6


def test_while_postgresql_and_the_registry_are_away(settings: Settings, tmp_path: Path) -> None:
    port, nowhere = free_port(), free_port()
    address = settings.postgres.api_dsn.partition("@")[2].partition("/")[0]
    away = settings.postgres.api_dsn.replace(address, f"127.0.0.1:{port}")
    registry = f"http://127.0.0.1:{nowhere}/apis/ccompat/v7"
    with serving(tmp_path, away, HEADWATER_REGISTRY__URL=registry) as server:
        for name in (*ACTIONS, *LOOKS):
            answer = ask(server, name)
            assert (answer.status_code, answer.json()["code"]) == (503, "postgres_unavailable")
            assert answer.headers["retry-after"] == "5"
        assert ask(server, "stop", token(server, "crm:read")).status_code == 503
        health = httpx.get(f"{server.url}/health")
        states = {name: one["status"] for name, one in health.json()["dependencies"].items()}
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert states == {"kafka": "ok", "redis": "ok", "postgres": "down", "registry": "down"}
        with forwarding(port, address):
            assert ask(server, "start").status_code == 202


def test_one_of_several_registries_is_enough(settings: Settings) -> None:
    there = settings.registry.url

    async def found(url: str) -> bool:
        registry = SchemaRegistry(settings.registry.model_copy(update={"url": url}))
        try:
            return await registry.reachable()
        finally:
            await registry.close()

    nowhere, elsewhere = f"http://127.0.0.1:{free_port()}", there.replace("/apis/", "/nothing/")
    assert [asyncio.run(found(url)) for url in (f"{nowhere}, {there}", nowhere, elsewhere)] == [
        True,
        False,
        False,
    ]
