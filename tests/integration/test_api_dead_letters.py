"""Dead letters over HTTP: a real API on PostgreSQL and a small lake of the test's own."""

import base64
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from headwater.postgres import Connection
from headwater.settings import Settings
from local.postgres import dsn
from tests.integration.api_server import ApiServer, forwarding, free_port, running_api
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.test_api_crm import token, trail
from tests.letters import CANARY, NOON, PAYLOAD, append, identity, lake_settings, letter, make_lake, statuses

PREFIX = "/api/v1/dead-letters"
READS = ("", "/stats", f"/{identity(1)}")
ORDER = {"ids": [identity(1)], "why": "a test"}
EVERY = (*READS, "/discard")


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        yield settings_of(name)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api")
    with running_api(folder, **environment(settings, str(folder / "none-yet"))) as server:
        yield server


def environment(settings: Settings, lake: str) -> dict[str, str]:
    return {"HEADWATER_POSTGRES__API_DSN": settings.postgres.api_dsn, "HEADWATER_LAKE": lake}


@pytest.fixture
def owner(settings: Settings) -> Iterator[Connection]:
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    login = dsn("headwater_owner", "postgres-owner", database)
    with closing(psycopg.connect(login, autocommit=True)) as made:
        yield made


@pytest.fixture
def lake(api: ApiServer) -> Iterator[Settings]:
    """The API's lake: three letters of the caller's tenant, one of globex', one of nobody's."""
    folder = api.folder / "none-yet"
    found = lake_settings(folder)
    mine = {"tenant_id": api.tenant}
    others = (letter(8, tenant_id="globex"), letter(9, tenant_id=None))
    make_lake(found, letter(0, "empty", **mine), letter(1, **mine), *others)
    append(found, letter(2, "type_mismatch", "rule:pattern", **mine))
    yield found
    folder.rename(folder.with_name(f"gone-{time.monotonic_ns()}"))


def ask(api: ApiServer, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    method = "POST" if path == "/discard" else "GET"
    if method == "POST" and not more.keys() & {"json", "content"}:
        more["json"] = ORDER
    chosen = {"X-API-Key": api.key} if headers is None else headers
    return httpx.request(method, f"{api.url}{PREFIX}{path}", headers=chosen, timeout=30, **more)


def offsets(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [one["source_offset"] for one in answer.json()["letters"]]


def entries(owner: Connection, before: int) -> list[tuple[str, dict[str, Any], str]]:
    """Action, detail and result of what was entered since."""
    return [(entry[2], entry[3], entry[6]) for entry in trail(owner)[before:]]


def test_without_the_table_there_are_no_letters(api: ApiServer) -> None:
    assert ask(api, "").json() == {"letters": [], "next_cursor": None}
    assert ask(api, "/stats").json() == {"groups": []}
    assert ask(api, f"/{identity(1)}").status_code == 404
    assert ask(api, "/discard").json() == {"discarded": 0}


def test_the_list_has_the_tenants_letters_newest_first_and_no_payload(api: ApiServer, lake: Settings) -> None:
    answer = ask(api, "")
    assert offsets(answer) == [2, 1, 0] and answer.json()["next_cursor"] is None
    first = answer.json()["letters"][0]
    assert (first["failed_at"], first["status"]) == ("2026-03-01T12:00:02.000000Z", "new")
    assert [reason["code"] for reason in first["reasons"]] == ["type_mismatch", "rule:pattern"]
    assert CANARY not in answer.text and not {"payload", "headers"} & first.keys()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"reason": "rule:pattern"}, [2, 1]),
        ({"reason": "empty", "stream": "lead.ingest", "stage": "validate"}, [0]),
        ({"status": "discarded"}, []),
        ({"fingerprint": "f" * 64, "contract_version": "1.0.0"}, [2, 1, 0]),
        ({"since": "2026-03-01T12:00:01Z", "until": "2026-03-01T13:00:02+01:00"}, [1]),
    ],
)
def test_the_list_takes_a_filter(
    api: ApiServer, lake: Settings, query: dict[str, str], found: list[int]
) -> None:
    assert offsets(ask(api, "", params=query)) == found


def test_pages_give_each_letter_once_while_new_ones_come(api: ApiServer, lake: Settings) -> None:
    mine = {"tenant_id": api.tenant}
    append(lake, *[letter(n, failed_at=NOON, **mine) for n in range(20, 25)])
    seen: list[int] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        answer = ask(api, "", params=query)
        seen += offsets(answer)
        append(lake, letter(100 + len(seen), **mine))
        if answer.json()["next_cursor"] is None:
            break
        query["cursor"] = answer.json()["next_cursor"]
    assert len(seen) == 8 and set(seen) == {0, 1, 2, *range(20, 25)}
    assert seen[:2] == [2, 1]


def test_stats_count_the_tenants_letters_in_groups(api: ApiServer, lake: Settings) -> None:
    groups = ask(api, "/stats").json()["groups"]
    assert [(g["stream"], g["reason"], g["letters"]) for g in groups] == [
        ("lead.ingest", "rule:pattern", 2), ("lead.ingest", "empty", 1), ("lead.ingest", "type_mismatch", 1),
    ]  # fmt: skip
    (day,) = ask(api, "/stats", params={"by": "day,contract_version", "limit": 1}).json()["groups"]
    assert (day["day"], day["contract_version"], day["letters"]) == ("2026-03-01", "1.0.0", 3)
    assert (day["last_failed_at"], day["example"]) == ("2026-03-01T12:00:02.000000Z", identity(2))


def test_a_letter_is_masked_unless_the_credential_may_see_persons(
    api: ApiServer, lake: Settings, owner: Connection
) -> None:
    append(lake, letter(3, replay_of=identity(1), tenant_id=api.tenant), letter(4, replay_of=identity(1)))
    before = len(trail(owner))
    masked = ask(api, f"/{identity(1)}")
    found = masked.json()
    assert masked.status_code == 200 and CANARY not in masked.text
    assert found["payload"]["json"]["payload"] == {"email": "text(22)", "consent": True}
    assert found["headers"] == [{"name": "trace", "size": len(CANARY)}]
    assert (found["same_fingerprint"], offsets_of(found["replays"])) == (4, [3])
    plain = ask(api, f"/{identity(1)}", token(api, "dlq:read pii:read")).json()
    assert base64.b64decode(plain["payload"]["base64"]) == PAYLOAD and plain["payload"]["masked"] is False
    said = [{"dead_letter_id": identity(1), "masked": masked} for masked in (True, False)]
    assert entries(owner, before) == [("letters.show", detail, "ok") for detail in said]


def offsets_of(letters: list[dict[str, Any]]) -> list[int]:
    return [one["source_offset"] for one in letters]


def test_anothers_letter_nobodys_and_one_that_is_not_there_are_the_same_404(
    api: ApiServer, lake: Settings, owner: Connection
) -> None:
    before = len(trail(owner))
    answers = [ask(api, f"/{name}") for name in (identity(8), identity(9), identity(77), "x", "%00")]
    said = {json.dumps(answer.json() | {"request_id": ""}) for answer in answers}
    assert ({answer.status_code for answer in answers}, len(said)) == ({404}, 1)
    assert [result for _, _, result in entries(owner, before)] == ["not_found"] * 5
    pages = [ask(api, "", params={"fingerprint": "f" * 64}), ask(api, "", params={"limit": 500})]
    assert all(offsets(page) == [2, 1, 0] for page in pages)


def test_no_letter_is_called_like_a_way_to_ask(api: ApiServer) -> None:
    for method, path, allowed in (
        ("GET", "/discard", "POST"),
        ("PUT", "/discard", "POST"),
        ("POST", "/stats", "GET"),
    ):
        answer = httpx.request(method, f"{api.url}{PREFIX}{path}", headers={"X-API-Key": api.key})
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert answer.json()["code"] == "method_not_allowed"


def test_letters_are_discarded_by_id_and_those_of_others_are_left(
    api: ApiServer, lake: Settings, owner: Connection
) -> None:
    before = len(trail(owner))
    order = {"ids": [identity(n) for n in (1, 2, 8, 9, 77)], "why": "test traffic"}
    assert ask(api, "/discard", json=order).json() == {"discarded": 2}
    assert statuses(lake) == {0: "new", 1: "discarded", 2: "discarded", 8: "new", 9: "new"}
    assert ask(api, "/discard", json=order).json() == {"discarded": 0}
    assert entries(owner, before) == [
        ("letters.discard", order | {"letters": count}, "ok") for count in (2, 0)
    ]


def test_letters_are_discarded_by_a_filter(api: ApiServer, lake: Settings, owner: Connection) -> None:
    wanted = {"reason": "rule:pattern", "until": "2026-03-01T12:00:02Z"}
    assert ask(api, "/discard", json={"filter": wanted, "why": "x"}).json() == {"discarded": 1}
    assert statuses(lake) == {0: "new", 1: "discarded", 2: "new", 8: "new", 9: "new"}
    assert ask(api, "/discard", json={"filter": {"status": "replayed"}, "why": "x"}).json() == {
        "discarded": 0
    }
    assert offsets(ask(api, "", params={"status": "discarded"})) == [1]


def test_of_many_who_discard_at_once_each_letter_is_counted_by_one(api: ApiServer, lake: Settings) -> None:
    append(lake, *[letter(n, tenant_id=api.tenant) for n in range(100, 140)])
    order = {"filter": {"status": "new"}, "why": "x"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(api, "/discard", json=order), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    done = sum(answer.json()["discarded"] for answer in answers if answer.status_code == 200)
    assert done == list(statuses(lake).values()).count("discarded") == 43
    assert all(
        a.json()["code"] == "busy" and a.headers["retry-after"] for a in answers if a.status_code == 503
    )


@pytest.mark.parametrize("path", EVERY)
def test_an_unknown_caller_is_401_and_leaves_no_trace(api: ApiServer, owner: Connection, path: str) -> None:
    before = len(trail(owner))
    assert ask(api, path, {}).status_code == 401
    assert len(trail(owner)) == before


@pytest.mark.parametrize("path", EVERY)
def test_a_caller_without_the_scope_is_403_and_is_kept_in_mind(
    api: ApiServer, lake: Settings, owner: Connection, path: str
) -> None:
    mine, others = ("dlq:replay", "dlq:read pii:read") if path == "/discard" else ("dlq:read", "dlq:replay")
    before = len(trail(owner))
    refused = ask(api, path, token(api, others, "eve"))
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert ask(api, path, token(api, mine)).status_code == 200
    assert [(e[0], e[6]) for e in trail(owner)[before:]] == [("jwt:eve", "forbidden"), ("jwt:ada", "ok")]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("", {"tenant": "globex"}),
        ("", {"limit": "501"}),
        ("", {"limit": "0"}),
        ("", {"cursor": "1-2"}),
        ("", {"cursor": f"{10**15}-{'g' * 64}"}),
        ("", {"status": "lost"}),
        ("", {"fingerprint": "f"}),
        ("", {"since": "yesterday"}),
        ("", {"since": "0001-01-01T00:00:00+23:59"}),
        ("", {"stream": "x" * 256}),
        ("", {"stream": "a\0b"}),
        ("", {"reason": ""}),
        ("/stats", {"by": "tenant"}),
        ("/stats", {"by": "day,day"}),
        (f"/{identity(1)}", {"pii": "true"}),
        ("/discard", {"force": "1"}),
    ],
)
def test_a_wrong_parameter_is_422_and_kept_in_mind(
    api: ApiServer, owner: Connection, path: str, query: dict[str, str]
) -> None:
    before = len(trail(owner))
    answer = ask(api, path, params=query)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_parameter")
    assert [(detail, result) for _, detail, result in entries(owner, before)] == [({}, "invalid_parameter")]


IDS = [identity(1)]


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {("/why", "missing_required"), ("", "rule:one_of")}),
        (ORDER | {"filter": {"status": "new"}}, {("", "rule:one_of")}),
        ({"ids": IDS, "why": " "}, {("/why", "rule:min_length")}),
        ({"ids": IDS, "why": "x" * 501}, {("/why", "rule:max_length")}),
        ({"ids": IDS, "why": 1, "no": 1}, {("/why", "type_mismatch"), ("/no", "rule:unknown_field")}),
        ({"ids": IDS, "why": "a\0"}, {("/why", "nul_character")}),
        ({"ids": [], "why": "x"}, {("/ids", "rule:items")}),
        ({"ids": IDS * 1001, "why": "x"}, {("/ids", "rule:items")}),
        ({"ids": [*IDS, "X", 1], "why": "x"}, {("/ids/1", "rule:pattern"), ("/ids/2", "rule:pattern")}),
        ({"ids": "x", "why": "x"}, {("/ids", "type_mismatch")}),
        ({"filter": {}, "why": "x"}, {("/filter", "rule:properties")}),
        ({"filter": [], "why": "x"}, {("/filter", "type_mismatch")}),
        (
            {"filter": {"tenant": "globex", "status": "x", "since": 1}, "why": "x"},
            {("/filter/tenant", "rule:unknown_field"), ("/filter/status", "rule:parameter"),
             ("/filter/since", "type_mismatch")},
        ),
        ([], {("", "type_mismatch")}),
    ],
)  # fmt: skip
def test_every_fault_of_an_order_is_named(
    api: ApiServer, owner: Connection, body: Any, faults: set[tuple[str, str]]
) -> None:
    before = len(trail(owner))
    answer = ask(api, "/discard", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_order")
    assert {(fault["field"], fault["code"]) for fault in answer.json()["errors"]} == faults
    assert entries(owner, before) == [("letters.discard", {}, "invalid_order")]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "malformed_json"),
        (b"", 400, "empty"),
        (b'"' + b"x" * (128 << 10) + b'"', 413, "too_large"),
    ],
    ids=["cut", "empty", "large"],
)
def test_what_is_no_order_at_all_is_refused(api: ApiServer, content: bytes, status: int, code: str) -> None:
    headers = {"X-API-Key": api.key, "Content-Type": "application/json"}
    answer = ask(api, "/discard", headers, content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_what_was_asked_for_is_entered_with_who_and_from_where(
    api: ApiServer, lake: Settings, owner: Connection
) -> None:
    before = len(trail(owner))
    headers = token(api, "dlq:read", "ada@example.com") | {"X-Request-Id": "r-letters"}
    since = (NOON - timedelta(days=1)).isoformat()
    ask(api, "", headers, params={"stream": "lead.ingest", "since": since})
    ask(api, "/stats", headers, params={"by": "stage"})
    who = ("jwt:ada@example.com", api.tenant)
    assert trail(owner)[before:] == [
        (*who, "letters.list", {"stream": "lead.ingest", "since": since}, "127.0.0.1", "r-letters", "ok"),
        (*who, "letters.stats", {"by": ["stage"]}, "127.0.0.1", "r-letters", "ok"),
    ]


def test_while_postgresql_is_away_nothing_is_shown_or_done(settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    address = settings.postgres.api_dsn.partition("@")[2].partition("/")[0]
    away = settings.postgres.api_dsn.replace(address, f"127.0.0.1:{port}")
    lake = lake_settings(tmp_path / "lake")
    make_lake(lake)
    with running_api(tmp_path, HEADWATER_POSTGRES__API_DSN=away, HEADWATER_LAKE=lake.lake) as server:
        append(lake, letter(1, tenant_id=server.tenant))
        for path in EVERY:
            answer = ask(server, path)
            assert (answer.status_code, answer.json()["code"]) == (503, "postgres_unavailable")
            assert answer.headers["retry-after"] == "5" and identity(1) not in answer.text
        assert ask(server, "", token(server, "crm:read")).status_code == 503
        assert statuses(lake) == {1: "new"}
        with forwarding(port, address):
            assert ask(server, "/discard").json() == {"discarded": 1}


def test_a_lake_that_cannot_be_read_is_503(api: ApiServer, lake: Settings, owner: Connection) -> None:
    before = len(trail(owner))
    for file in Path(lake.lake, "ops", "dead_letters").glob("*.parquet"):
        file.write_bytes(b"PAR1")
    for path in EVERY:
        answer = ask(api, path)
        assert (answer.status_code, answer.json()["code"]) == (503, "lake_unavailable")
        assert answer.headers["retry-after"] == "5"
    assert entries(owner, before) == []


def test_on_a_remote_lake_nothing_is_discarded(settings: Settings, owner: Connection, tmp_path: Path) -> None:
    with running_api(tmp_path, **environment(settings, "hdfs://name/lake")) as server:
        refused = ask(server, "/discard")
        assert (refused.status_code, refused.json()["code"]) == (409, "lake_is_remote")
        assert trail(owner)[-1][6] == "lake_is_remote"
        unread = ask(server, "")
        assert (unread.status_code, unread.json()["code"]) == (503, "lake_unavailable")
        assert "hdfs" not in unread.text and "a folder or from S3" in server.logged(unread)
