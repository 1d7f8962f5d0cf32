"""Replays of dead letters over HTTP: asked for, listed, shown, approved; the test writes what a job would."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from api.replays import MOST_OPEN
from headwater.postgres import Connection
from local.postgres import dsn
from schemas.patch import Patch
from sources.letters.wanted import Wanted
from tests.integration.api_server import ApiServer
from tests.integration.test_api_crm import token, trail

# Its fixtures: an API on a database of the test's own, and the owner's connection.
from tests.integration.test_api_dead_letters import api, entries, owner, settings
from tests.letters import identity
from tests.replays import PLAN, ended, planned

__all__ = ["api", "owner", "settings"]
PREFIX = "/api/v1/dead-letters/replays"
PATCH = [{"op": "replace", "path": "/payload/email", "value": "ada@example.com"}]
ORDER: dict[str, Any] = {"ids": [identity(1)], "why": "a mended producer"}


@pytest.fixture
def book(owner: Connection) -> Iterator[Connection]:
    """No replays; a connection that may do what a job does, and look."""
    owner.execute("TRUNCATE analytics.replays")
    yield owner


def ask(
    api: ApiServer, method: str, path: str = "", headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    chosen = {"X-API-Key": api.key} if headers is None else headers
    return httpx.request(method, f"{api.url}{PREFIX}{path}", headers=chosen, timeout=30, **more)


def requested(api: ApiServer, **changes: Any) -> str:
    """The id of a new replay."""
    answer = ask(api, "POST", json=ORDER | changes)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert found == {"replay_id": found["replay_id"], "status": "requested"}
    assert answer.headers["location"] == f"{PREFIX}/{found['replay_id']}"
    return str(found["replay_id"])


def test_a_replay_is_asked_for_with_its_patch_and_kept_with_who_asked(
    api: ApiServer, book: Connection
) -> None:
    before = len(trail(book))
    replay_id = requested(api, patch=PATCH)
    row = "SELECT tenant_id, author, why, wanted, patch, patch_sha256, status FROM analytics.replays"
    wanted = {"tenant": api.tenant, "ids": ORDER["ids"]}
    actor = f"key:writer{api.tenant}"
    assert book.execute(row).fetchall() == [
        (api.tenant, actor, ORDER["why"], wanted, PATCH, Patch(tuple(PATCH)).sha256, "requested")
    ]
    detail = ORDER | {"patch_sha256": Patch(tuple(PATCH)).sha256, "replay_id": replay_id}
    assert entries(book, before) == [("replays.request", detail, "ok")]


def test_a_filter_is_kept_as_the_jobs_read_it(api: ApiServer, book: Connection) -> None:
    asked = {"reason": "rule:pattern", "status": "new", "since": "2026-03-01T12:00:00+01:00"}
    ask(api, "POST", json={"filter": asked, "why": "x"})
    since = datetime(2026, 3, 1, 11, tzinfo=UTC)
    given = Wanted(tenant=api.tenant, reason="rule:pattern", status="new", since=since).given
    assert book.execute("SELECT wanted, patch, patch_sha256 FROM analytics.replays").fetchall() == [
        (given, None, None)
    ]


def test_a_replay_goes_from_requested_to_applied_and_is_shown_at_each_step(
    api: ApiServer, book: Connection
) -> None:
    replay_id = requested(api, patch=PATCH)
    before = len(trail(book))
    answers = []
    for step in (
        lambda: None,
        lambda: planned(book, replay_id),
        lambda: None,
        lambda: ended(book, replay_id),
    ):
        step()
        answers.append(ask(api, "POST", f"/{replay_id}/apply"))
    said = [(a.status_code, a.json().get("code", a.json()["status"])) for a in answers]
    assert said == [(409, "not_planned"), (202, "approved"), (202, "approved"), (202, "applied")]
    shown = ask(api, "GET", f"/{replay_id}").json()
    assert (shown["status"], shown["plan"], shown["patch"]) == ("applied", PLAN, PATCH)
    assert (shown["approved_by"], shown["result"]) == (
        f"key:writer{api.tenant}",
        {"sent": 2, "refused_again": 0},
    )
    assert shown["error"] is None and shown["created_at"] <= shown["planned_at"] <= shown["ended_at"]
    assert not {"digest", "starts", "tenant_id"} & shown.keys()
    assert [(action, result) for action, _, result in entries(book, before)] == [
        ("replays.apply", "not_planned"), *[("replays.apply", "ok")] * 3, ("replays.show", "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize("status", ["refused", "failed"])
def test_what_was_refused_or_failed_is_not_applied(api: ApiServer, book: Connection, status: str) -> None:
    replay_id = requested(api)
    ended(book, replay_id, status, "the letters have changed")
    answer = ask(api, "POST", f"/{replay_id}/apply")
    assert (answer.status_code, answer.json()["code"]) == (409, f"replay_{status}")
    assert ask(api, "GET", f"/{replay_id}").json()["error"] == "the letters have changed"


def test_replays_are_listed_by_state_a_page_at_a_time(api: ApiServer, book: Connection) -> None:
    made = [requested(api, why=str(number)) for number in range(5)]
    planned(book, made[2])
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = ask(api, "GET", params=query).json()
        seen += [one["replay_id"] for one in page["replays"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]
    found = ask(api, "GET", params={"status": "planned"}).json()["replays"]
    assert [(one["replay_id"], one["plan"]) for one in found] == [(made[2], PLAN)]


def test_values_of_a_patch_are_shown_to_who_may_send_them_or_see_persons(
    api: ApiServer, book: Connection
) -> None:
    replay_id = requested(api, patch=PATCH)
    bare = [{"op": "replace", "path": "/payload/email"}]
    for scope, shown in (("dlq:read", bare), ("dlq:read pii:read", PATCH), ("dlq:read dlq:replay", PATCH)):
        headers = token(api, scope)
        assert ask(api, "GET", f"/{replay_id}", headers).json()["patch"] == shown
        assert ask(api, "GET", "", headers).json()["replays"][0]["patch"] == shown


def test_anothers_replay_nobodys_and_one_that_is_not_there_are_the_same_404(
    api: ApiServer, book: Connection
) -> None:
    theirs, nobodys = uuid4(), uuid4()
    for replay_id, tenant in ((theirs, "globex"), (nobodys, None)):
        book.execute(
            "INSERT INTO analytics.replays (replay_id, tenant_id, author, why, wanted)"
            " VALUES (%s, %s, 'os:root', 'x', '{}')",
            (replay_id, tenant),
        )
        planned(book, str(replay_id))
    names = (theirs, nobodys, UUID(int=1), "x", "%00")
    for method, path in (("GET", "/{}"), ("POST", "/{}/apply")):
        answers = [ask(api, method, path.format(name)) for name in names]
        said = {json.dumps(answer.json() | {"request_id": ""}) for answer in answers}
        assert ({answer.status_code for answer in answers}, len(said)) == ({404}, 1)
    assert book.execute("SELECT DISTINCT status FROM analytics.replays").fetchall() == [("planned",)]
    assert ask(api, "GET").json() == {"replays": [], "next_cursor": None}


def test_of_many_who_ask_at_once_no_more_are_open_than_may_be(api: ApiServer, book: Connection) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(api, "POST", json=ORDER), range(MOST_OPEN + 5)))
    assert [a.status_code for a in answers].count(202) == MOST_OPEN
    assert {a.json()["code"] for a in answers if a.status_code != 202} == {"too_many_open"}
    assert book.execute("SELECT count(*) FROM analytics.replays").fetchone() == (MOST_OPEN,)
    one = book.execute("SELECT replay_id FROM analytics.replays LIMIT 1").fetchall()[0][0]
    planned(book, one)
    requested(api)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "", "dlq:replay"),
        ("GET", "", "dlq:read"),
        ("GET", f"/{UUID(int=1)}", "dlq:read"),
        ("POST", f"/{UUID(int=1)}/apply", "dlq:replay"),
    ],
)
def test_who_may_not_is_refused_and_kept_in_mind(
    api: ApiServer, book: Connection, method: str, path: str, scope: str
) -> None:
    more = {"json": ORDER} if (method, path) == ("POST", "") else {}
    before = len(trail(book))
    assert ask(api, method, path, {}, **more).status_code == 401
    others = "dlq:read pii:read" if scope == "dlq:replay" else "dlq:replay pii:read"
    assert ask(api, method, path, token(api, others, "eve"), **more).status_code == 403
    assert ask(api, method, path, token(api, scope), **more).status_code in (200, 202, 404)
    assert next((e[0], e[6]) for e in trail(book)[before:]) == ("jwt:eve", "forbidden")
    assert ask(api, method, path, params={"tenant": "globex"}, **more).status_code == 422


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {("/why", "missing_required"), ("", "rule:one_of")}),
        (ORDER | {"patch": []}, {("/patch", "rule:items")}),
        (ORDER | {"patch": None}, {("/patch", "type_mismatch")}),
        (
            {"filter": {"tenant": "x"}, "why": "x", "patch": [{"op": "add", "path": "a", "value": 1}]},
            {("/patch/0/path", "rule:pattern"), ("/filter/tenant", "rule:unknown_field")},
        ),
    ],
)
def test_every_fault_of_a_request_is_named(
    api: ApiServer, book: Connection, body: Any, faults: set[tuple[str, str]]
) -> None:
    before = len(trail(book))
    answer = ask(api, "POST", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_order")
    assert {(fault["field"], fault["code"]) for fault in answer.json()["errors"]} == faults
    assert entries(book, before) == [("replays.request", {}, "invalid_order")]


def test_the_apis_role_can_neither_plan_nor_change_a_replay(api: ApiServer, book: Connection) -> None:
    replay_id = requested(api)
    login = dsn("headwater_api", "postgres-api", book.info.dbname)
    with psycopg.connect(login, autocommit=True) as role:
        for statement in (
            "UPDATE analytics.replays SET status = 'approved'",
            "DELETE FROM analytics.replays",
            "INSERT INTO analytics.replays (replay_id, author, why, wanted, status)"
            " VALUES (gen_random_uuid(), 'x', 'x', '{}', 'requested')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(statement)
        approve = role.execute("SELECT analytics.approve_replay(%s, 'globex', 'x')", (replay_id,))
        assert approve.fetchall() == [(False,)]
