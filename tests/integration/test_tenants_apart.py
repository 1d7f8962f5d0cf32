"""No credential of one tenant reaches anything of another's: every route, every way to call it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest

from headwater.settings import Settings, load_settings
from local.postgres import dsn
from schemas.topics import create_topics
from tests.integration.api_server import ROOT, Tail
from tests.integration.outbox_harness import Leads, lead, migrated_database, settings_of
from tests.integration.tenants import (
    CRM,
    LETTERS,
    REPLAYS,
    Belongings,
    TwoTenants,
    bearer,
    belongings,
    every_route,
    imported,
    job_of,
    two_tenants,
    without_request,
)
from tests.integration.uploads.harness import ROWS, ask
from tests.integration.uploads.page_harness import FIELD, Browser, browsing
from transformations.refused import Header, refused

PAGES = ("/uploads", "/ops")
CALLERS = ("key", "token", "session", "nobody")
QUALITY_FILES = ("index.html", "docs/silver.leads/x/index.html", "mlflow/runs.db", "%2e%2e/lake/index.html")
NOBODYS = "00000000-0000-4000-8000-000000000001"
NDJSON = {"Content-Type": "application/x-ndjson"}
FILE = {"file": ("people.csv", ROWS, "text/csv")}
Route = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """What the other tenant sends to a route, and the status that each of CALLERS gets for it."""

    statuses: tuple[int, int, int, int]
    job: str = ""
    send: dict[str, Any] | None = None


def keyed(status: int, job: str = "", **send: Any) -> Case:
    """For programs: a session of the page is nothing there."""
    return Case((status, status, 401, 401), job, send)


def paged(status: int, job: str = "", **send: Any) -> Case:
    """For people: a key or a token is nothing there."""
    return Case((401, 401, status, 401), job, send)


def anyones(status: int, **send: Any) -> Case:
    return Case((status,) * 4, send=send)


def of_a_job(own: Belongings, kind: Callable[..., Case], **send: Any) -> list[Case]:
    return [kind(404, job, **send) for job in (own.done, own.waiting)]


def of_events(own: Belongings) -> dict[Route, list[Case]]:
    """Events, health, control of the CRM."""
    forged = own.event | {"tenant_id": own.tenant}
    line = json.dumps(forged).encode()
    return {
        ("POST", "/ingest"): [keyed(422, json=forged), keyed(202, json=own.event)],
        ("POST", "/ingest/batch"): [keyed(202, content=line, headers=NDJSON)],
        ("GET", "/health"): [anyones(200)],
        ("GET", "/health/live"): [anyones(200)],
        ("GET", "/metrics"): [anyones(200)],
        ("POST", f"{CRM}/start"): [keyed(202), keyed(422, params={"tenant_id": own.tenant})],
        ("POST", f"{CRM}/stop"): [keyed(202)],
        ("GET", f"{CRM}/status"): [keyed(200)],
        ("GET", f"{CRM}/metrics"): [keyed(200), keyed(422, params={"tenant_id": own.tenant})],
        ("POST", f"{CRM}/enqueue"): [keyed(404, json=own.record | {"offset": n}) for n in range(6)]
        + [keyed(422, json=own.record | {"tenant_id": own.tenant})],
    }


def of_letters(own: Belongings) -> dict[Route, list[Case]]:
    """Dead letters. Whoever may discard is told how many it had: none."""
    named, place = {"tenant": own.tenant}, {"cursor": own.letter_place}
    orders = [{"ids": list(own.letters)}, {"filter": {"fingerprint": own.fingerprint}}]
    return {
        ("GET", LETTERS): [
            keyed(200),
            keyed(200, params={"fingerprint": own.fingerprint}),
            keyed(200, params=place),
            keyed(422, params=named),
        ],
        ("GET", f"{LETTERS}/stats"): [keyed(200, params={"by": "stage,day"}), keyed(422, params=named)],
        ("GET", f"{LETTERS}/{{dead_letter_id}}"): [keyed(404, name) for name in own.letters],
        ("POST", f"{LETTERS}/discard"): [keyed(200, json={"why": "x"} | order) for order in orders]
        + [keyed(422, json={"why": "x", "filter": named})],
        # Of another's letters a replay is asked for in vain: it is within the caller's tenant.
        ("POST", REPLAYS): [keyed(202, json={"why": "x"} | order) for order in orders]
        + [keyed(422, json={"why": "x", "filter": named})],
        ("GET", REPLAYS): [
            keyed(200),
            keyed(200, params={"cursor": own.replay_place}),
            keyed(422, params=named),
        ],
        ("GET", f"{REPLAYS}/{{replay_id}}"): [keyed(404, own.replay), keyed(404, own.letters[0])],
        ("POST", f"{REPLAYS}/{{replay_id}}/apply"): [keyed(404, own.replay)],
    }


def of_files(own: Belongings) -> dict[Route, list[Case]]:
    """Uploads and their jobs, for programs."""
    named = {"tenant_id": own.tenant}
    return {
        ("POST", "/upload"): [
            keyed(202, params={"dataset": "people"}, content=ROWS),
            keyed(422, params={"dataset": "people"} | named, content=ROWS),
        ],
        ("GET", "/jobs"): [
            keyed(200),
            keyed(200, params={"cursor": own.place}),
            keyed(200, params={"status": "COMPLETED_WITH_ERRORS"}),
            keyed(422, params=named),
        ],
        ("GET", "/jobs/{job_id}"): of_a_job(own, keyed),
        ("GET", "/jobs/{job_id}/errors"): [
            *of_a_job(own, keyed, params={"cursor": 0}),
            *of_a_job(own, keyed, params={"format": "csv"}),
        ],
        ("GET", "/jobs/{job_id}/events"): of_a_job(own, keyed),
        ("POST", "/jobs/{job_id}/cancel"): of_a_job(own, keyed),
    }


def of_the_page(own: Belongings) -> dict[Route, list[Case]]:
    """The page. Its forms have the caller's own token, unless the case has another."""
    stolen = {FIELD: own.form_token}
    return {
        # Who is not signed in gets the form that asks for a key.
        ("GET", "/uploads"): [anyones(200), anyones(200, params={"cursor": own.place})],
        ("POST", "/uploads"): [
            paged(303, data={"dataset": "contacts"}, files=FILE),
            paged(403, data=stolen | {"dataset": "contacts"}, files=FILE),
        ],
        ("POST", "/uploads/sign-in"): [anyones(403, data=stolen | {"key": "hw_x_y"})],
        ("POST", "/uploads/sign-out"): [
            Case((303, 303, 403, 303), send={"data": stolen}),
            anyones(303, data={"after": ""}),
        ],
        ("GET", "/uploads/files/{name}"): [anyones(404), anyones(404, params={"job_id": own.done})],
        ("GET", "/uploads/jobs/{job_id}"): of_a_job(own, paged),
        ("GET", "/uploads/jobs/{job_id}/events"): of_a_job(own, paged),
        ("GET", "/uploads/jobs/{job_id}/errors.csv"): of_a_job(own, paged),
        ("POST", "/uploads/jobs/{job_id}/cancel"): [
            *of_a_job(own, paged, data={}),
            paged(403, own.waiting, data=stolen),
        ],
    }


def of_quality() -> dict[Route, list[Case]]:
    """Reports tell of all tenants, to whoever has the scope; here are none yet. A session of another area is
    nobody's."""
    return {
        ("GET", "/quality"): [Case((404, 404, 401, 401))],
        ("GET", "/quality/{path:path}"): [Case((404, 404, 401, 401), name) for name in QUALITY_FILES],
        ("POST", "/quality/sign-in"): [anyones(403, data={FIELD: "x", "key": "hw_x_y"})],
        ("POST", "/quality/sign-out"): [anyones(303, data={FIELD: "x"})],
        ("GET", "/quality/files/{name}"): [anyones(404)],
    }


def of_operations(own: Belongings) -> dict[Route, list[Case]]:
    """The page for operators, with the caller's own token unless the case has another."""
    stolen, group = {FIELD: own.form_token}, {"why": "x", "fingerprint": own.fingerprint}
    named, letter = {"tenant": own.tenant}, {"why": "x", "id": own.letters[0]}
    return {
        ("GET", "/ops"): [anyones(200), anyones(200, params={"span": "7d"})],
        ("GET", "/ops/events"): [paged(422, params=named)],
        ("GET", "/ops/letters"): [
            paged(200),
            paged(200, params={"cursor": own.letter_place}),
            paged(422, params=named),
        ],
        ("GET", "/ops/letters/{dead_letter_id}"): [paged(404, name) for name in own.letters],
        ("POST", "/ops/letters/discard"): [
            paged(200, data=group),
            paged(200, data=letter),
            paged(403, data=letter | stolen),
        ],
        ("GET", "/ops/replays"): [paged(200), paged(200, params={"cursor": own.replay_place})],
        ("POST", "/ops/replays"): [paged(303, data=group), paged(403, data=letter | stolen)],
        ("GET", "/ops/replays/{replay_id}"): [paged(404, own.replay)],
        ("GET", "/ops/replays/{replay_id}/events"): [paged(404, own.replay)],
        ("POST", "/ops/replays/{replay_id}/apply"): [
            paged(404, own.replay, data={}),
            paged(403, own.replay, data=stolen),
        ],
        ("POST", "/ops/sign-in"): [anyones(403, data=stolen | {"key": "hw_x_y"})],
        ("POST", "/ops/sign-out"): [Case((303, 303, 403, 303), send={"data": stolen})],
        ("GET", "/ops/files/{name}"): [anyones(404)],
    }


def cases(own: Belongings) -> dict[Route, list[Case]]:
    """At least one for every route."""
    return (
        of_events(own)
        | of_letters(own)
        | of_files(own)
        | of_the_page(own)
        | of_operations(own)
        | of_quality()
    )


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    create_topics(load_settings())
    with migrated_database() as name:
        yield settings_of(name)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoTenants]:
    with two_tenants(tmp_path_factory.mktemp("api"), settings) as server:
        yield server


@pytest.fixture(scope="module")
def own(api: TwoTenants, settings: Settings) -> Iterator[Belongings]:
    with browsing(api) as browser:
        yield belongings(api, settings, browser)


@contextmanager
def calling(api: TwoTenants, caller: str, route: Route) -> Iterator[Browser]:
    """The other tenant by one of its credentials; nobody has none."""
    area = "/ops" if route[1].startswith("/ops") else "/uploads"
    with browsing(api, api.other_key if caller == "session" else None, area) as browser:
        if caller == "key":
            browser.http.headers["X-API-Key"] = api.other_key
        if caller == "token":
            browser.http.headers.update(bearer(api, api.other, "eve"))
        yield browser


def asked(browser: Browser, route: Route, case: Case, job: str | None = None) -> httpx.Response:
    send = dict(case.send or {})
    if "data" in send and browser.session:
        send["data"] = {FIELD: browser.token()} | send["data"]
    wanted = job or case.job
    named = dict.fromkeys(("job_id", "dead_letter_id", "replay_id"), wanted)
    path = route[1].replace("{path:path}", case.job).format(name=case.job or NOBODYS, **named)
    return browser.http.request(route[0], path, **send)


def state(api: TwoTenants, own: Belongings) -> tuple[Any, ...]:
    """What the owner sees of its own."""
    with api.client() as client:
        jobs = client.get("/jobs").json()
        errors = client.get(f"/jobs/{own.done}/errors").json()
        counts = client.get(f"{CRM}/metrics").json()
        letters = client.get(LETTERS).json()
        replays = client.get(REPLAYS).json()
    return jobs, errors, counts, letters, replays


def test_every_route_has_a_case(api: TwoTenants, own: Belongings) -> None:
    document = httpx.get(f"{api.url}/openapi.json")
    told = {(method.upper(), path) for path, ways in document.json()["paths"].items() for method in ways}
    assert told <= every_route() == cases(own).keys()
    assert own.shown_in(document) == set()


def test_what_is_looked_for_is_what_the_owner_is_shown(api: TwoTenants, own: Belongings) -> None:
    """Else the other tests would find nothing wherever it was."""
    seen: set[str] = set()
    with browsing(api, api.key) as browser:
        browser.http.headers["X-API-Key"] = api.key
        for prefix in ("/jobs", "/uploads/jobs"):
            for job in (own.done, own.waiting):
                seen |= own.shown_in(browser.get(f"{prefix}/{job}"))
        seen |= own.shown_in(browser.get("/jobs", params={"limit": 1}))
        seen |= own.shown_in(browser.get(f"/jobs/{own.done}/errors"))
        seen |= own.shown_in(browser.get(f"{LETTERS}/{own.letters[0]}"))
        seen |= own.shown_in(browser.get(REPLAYS))
    secret = {api.tenant, *api.key.split("_"), *own.kept_to_itself}
    assert own.marks - seen <= secret


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("route", sorted(every_route()), ids=" ".join)
def test_another_tenant_sees_nothing_and_changes_nothing(
    api: TwoTenants, own: Belongings, route: Route, caller: str
) -> None:
    before = state(api, own)
    for case in cases(own)[route]:
        with calling(api, caller, route) as browser:
            answer = asked(browser, route, case)
            assert answer.status_code == case.statuses[CALLERS.index(caller)], (case, answer.text)
            # The form that asks for a key leads back to the page that was asked for.
            assert own.shown_in(answer) <= {case.job if answer.status_code == 401 else ""}
    assert state(api, own) == before


@pytest.mark.parametrize("route", sorted(r for r in every_route() if "_id}" in r[1]), ids=" ".join)
def test_anothers_job_is_answered_like_one_that_is_not_there(
    api: TwoTenants, own: Belongings, route: Route
) -> None:
    for case in cases(own)[route]:
        said = []
        for job in (case.job, NOBODYS):
            with calling(api, "session" if route[1].startswith(PAGES) else "key", route) as browser:
                said.append(without_request(asked(browser, route, case, job)))
        assert said[0] == said[1]


def test_metrics_and_health_stay_the_same_for_whoever_asks_later(api: TwoTenants, own: Belongings) -> None:
    for path in ("/metrics", "/health", "/health/live", "/openapi.json", "/nowhere"):
        assert own.shown_in(httpx.get(api.url + path, params={"tenant_id": "x"})) == set()


def test_the_others_lists_and_counts_are_empty(api: TwoTenants, own: Belongings) -> None:
    stranger = bearer(api, f"{api.tenant}.x", "eve")  # a tenant whose name begins like the owner's
    jobs = httpx.get(f"{api.url}/jobs", headers=stranger).json()
    counts = httpx.get(f"{api.url}{CRM}/metrics", headers=stranger).json()
    assert jobs == {"jobs": [], "next_cursor": None}
    assert httpx.get(f"{api.url}{LETTERS}", headers=stranger).json()["letters"] == []
    assert httpx.get(f"{api.url}{LETTERS}/stats", headers=stranger).json() == {"groups": []}
    assert {counts[name] for name in ("processed", "skipped", "errors", "queue_depth")} == {0}
    mine = httpx.get(f"{api.url}{CRM}/metrics", headers={"X-API-Key": api.key}).json()
    assert [mine[name] for name in ("processed", "skipped", "errors", "queue_depth")] == [2, 1, 2, 1]


def test_a_cursor_does_not_tell_how_many_rows_of_others_were_refused(
    api: TwoTenants, own: Belongings, settings: Settings
) -> None:
    stranger, cursors = bearer(api, f"{api.tenant}.z", "eve"), []
    for others in (0, 7):
        with api.client() as client:
            query = {"dataset": "between", "force": "true"}
            imported(settings, job_of(client.post("/upload", params=query, content=ROWS)), "x", others)
        sent = {"params": {"dataset": "mine", "force": "true"}, "content": ROWS, "headers": stranger}
        job = job_of(httpx.post(f"{api.url}/upload", **sent))
        imported(settings, job, "mine", rows=3)
        found = httpx.get(f"{api.url}/jobs/{job}/errors", params={"limit": 2}, headers=stranger).json()
        assert [error["line"] for error in found["errors"]] == [2, 3]
        cursors.append(found["next_cursor"])
    assert cursors[0] == cursors[1]


def test_a_file_or_a_key_that_two_tenants_send_are_two(api: TwoTenants, own: Belongings) -> None:
    stranger = bearer(api, f"{api.tenant}.y", "eve")
    sent = {"params": own.upload, "content": own.content, "headers": stranger}
    again = httpx.post(f"{api.url}/upload", **sent)  # the owner's is done: its own would be 200
    assert (again.status_code, own.shown_in(again)) == (202, set())
    named = stranger | {"Idempotency-Key": own.idempotency_key}
    event = httpx.post(f"{api.url}/ingest", json=own.event, headers=named)
    assert event.status_code == 202
    assert own.shown_in(event) == {own.idempotency_key}  # which it sent itself


def test_a_session_is_not_taken_for_one_of_another_key(api: TwoTenants, own: Belongings) -> None:
    with browsing(api, api.other_key) as browser:
        name, rest = str(browser.session).split(".", 1)
        owners = api.key.split("_")[1]
        browser.http.cookies.clear()
        for forged in (
            f"{owners}.{rest}",
            f"{owners}.{rest[:-1]}A",
            f"{name}.{own.session.split('.', 1)[1]}",
        ):
            cookie = {"Cookie": f"headwater_session={forged}"}
            assert browser.get(f"/uploads/jobs/{own.done}", headers=cookie).status_code == 401
            assert own.shown_in(browser.get("/uploads", headers=cookie)) == set()


# Dead letters


@pytest.mark.parametrize("way", ["/ingest", "/ingest/batch"])
def test_a_refused_body_is_its_senders_whatever_it_says(api: TwoTenants, way: str) -> None:
    letters = Tail("lead.refused")
    body = {"tenant_id": api.tenant, "source": "x" * 51, "payload": {"email": "e@example.com"}}
    headers = {"tenant_id": api.tenant, "X-Tenant-Id": api.tenant}
    kind = NDJSON if way.endswith("batch") else {"Content-Type": "application/json"}
    try:
        for credential in ({"X-API-Key": api.other_key}, bearer(api, api.other, "eve")):
            httpx.post(
                api.url + way, content=json.dumps(body).encode(), headers=headers | credential | kind,
                params={"tenant_id": api.tenant},
            )  # fmt: skip
        found, others = letters.read(api.other, 2), letters.read(api.tenant, 0, quiet_s=0.2)
    finally:
        letters.close()
    assert others == []
    verdicts = [refused([Header(key=k, value=v) for k, v in one["_headers"].items()]) for one in found]
    assert [(v.outcome, v.tenant_id, v.stage) for v in verdicts] == [("dead", api.other, "api")] * 2
    assert all(("rule:tenant_match", "/tenant_id") in verdict.reasons for verdict in verdicts)


# PostgreSQL

GRANTED = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND has_schema_privilege(%s, n.oid, 'USAGE') AND has_any_column_privilege(%s, c.oid, 'SELECT')
"""


def granted(settings: Settings, role: str) -> set[str]:
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    return {name for (name,) in ask(database, GRANTED, f"headwater_{role}", f"headwater_{role}")}


def test_the_roles_that_see_all_tenants_see_what_the_documentation_says(settings: Settings) -> None:
    _, _, text = (ROOT / "docs" / "security.md").read_text().partition("## Tenants apart\n")
    text, _, _ = text.partition("\n## ")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `headwater_")]
    told = {row[1].strip().strip("`"): set(row[2].replace("`", "").replace(",", " ").split()) for row in rows}
    assert told["headwater_reader"] == granted(settings, "reader")
    assert told["headwater_api"] == granted(settings, "api")
    assert all(name.endswith("_masked") for name in told["headwater_reader"])


def test_the_reader_is_an_operators_and_sees_the_leads_of_all_masked(settings: Settings) -> None:
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    leads = Leads(settings)
    try:
        leads.write(lead("k-1", tenant="acme"), lead("k-2", tenant="globex"))
    finally:
        leads.close()
    shown = ask(database, "SELECT tenant_id, email FROM leads_masked ORDER BY 1", role="reader")
    assert shown == [("acme", "***@example.com"), ("globex", "***@example.com")]
    with psycopg.connect(dsn("headwater_api", "postgres-api", database)) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT tenant_id FROM leads_masked")
