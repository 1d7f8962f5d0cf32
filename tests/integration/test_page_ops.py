"""The page for operators without a browser: what each key is shown, that it adds up, what is kept of it."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from headwater.postgres import Connection
from headwater.settings import Settings
from local.postgres import dsn
from tests.integration.api_server import free_port
from tests.integration.broker import eventually
from tests.integration.ops_harness import OpsApi, all_beat, beat, entered, entry, filled, ops_api
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.test_api_crm import trail
from tests.integration.uploads.page_harness import FIELD, Browser, attributes, browsing, text_of
from tests.letters import CANARY, identity, statuses
from tests.replays import ended, planned

PATCH = '[{"op": "replace", "path": "/payload/email", "value": "x@example.com"}]'


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with migrated_database() as name:
        yield settings_of(name)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsApi]:
    with ops_api(tmp_path_factory.mktemp("api"), settings) as server:
        filled(server)
        yield server


@pytest.fixture
def owner(settings: Settings) -> Iterator[Connection]:
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    login = dsn("headwater_owner", "postgres-owner", database)
    with closing(psycopg.connect(login, autocommit=True)) as made:
        made.execute("TRUNCATE analytics.query_states, analytics.replays")
        yield made


@pytest.fixture
def browser(api: OpsApi) -> Iterator[Browser]:
    with browsing(api, api.key, "/ops") as made:
        yield made


def acts(owner: Connection, before: int) -> list[tuple[str, str]]:
    return [(entry[2], entry[6]) for entry in trail(owner)[before:]]


def asked(browser: Browser, **fields: str) -> str:
    """The path of a replay that was asked for by the form."""
    answer = browser.post("/ops/replays", **({"why": "mended"} | fields))
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


def test_an_operator_sees_all_parts(browser: Browser, owner: Connection) -> None:
    all_beat(owner)
    time.sleep(2)  # for so long queries are kept in mind
    before = len(trail(owner))
    text = text_of(browser.get())
    assert "1 of 6 queries need a look: ingest.crm" in text
    crm, leads = text.index("Query State", text.index(" crm ")), text.index(" leads ")
    assert crm < leads and text.index("ingest.leads", leads) < text.index("refine.leads", leads)
    assert text.index("refine.leads", leads) < text.index("deliver.leads.postgres", leads)
    assert "lead.ingest 0.0 700 650 40 7 0 3 0 adds up" in text
    assert "rule:pattern lead.ingest 3" in text and "empty lead.ingest 1" in text
    assert "gold.session_kpis Failed 75 % 25 of 100" in text and "999,999" not in text
    assert acts(owner, before) == [("letters.stats", "ok"), ("replays.list", "ok")]


def test_each_key_sees_what_its_scopes_are_for(api: OpsApi, owner: Connection) -> None:
    before = len(trail(owner))
    with browsing(api, api.watcher_key, "/ops") as watcher:
        page = watcher.get().text
        assert [f'id="{name}"' in page for name in ("flow", "balance", "letters", "replays", "quality")] == [
            True, True, False, False, False,
        ]  # fmt: skip
        for path in ("/ops/letters", f"/ops/letters/{identity(1)}", "/ops/replays"):
            assert watcher.get(path).status_code == 403
        assert watcher.post("/ops/replays", id=identity(1), why="x").status_code == 403
        assert watcher.post("/ops/letters/discard", id=identity(1), why="x").status_code == 403
    kept = ["letters.list", "letters.show", "replays.list", "replays.request", "letters.discard"]
    assert acts(owner, before) == [(action, "forbidden") for action in kept]
    with api.key_of(("dlq:read",)) as key, browsing(api, key, "/ops") as reader:
        assert '<form class="card"' not in reader.get(f"/ops/letters/{identity(1)}").text
    with api.key_of(("upload:write",)) as key, browsing(api, None, "/ops") as nobody:
        assert nobody.sign_in(key).status_code == 403


def test_each_area_has_a_session_of_its_own(api: OpsApi, browser: Browser) -> None:
    with browsing(api, None, "/ops") as other:
        found = attributes(other.sign_in(api.key), "headwater_session")
    assert "path=/ops" in found and {"httponly", "samesite=strict"} <= found
    assert "Sign in" in text_of(browser.get("/uploads"))
    assert browser.post("/ops/sign-out").headers["location"] == "/ops"
    assert browser.get("/ops/letters").status_code == 401
    for after, leads in (("/ops/letters", "/ops/letters"), ("/uploads", "/ops"), ("//evil", "/ops")):
        with browsing(api, None, "/ops") as other:
            assert other.sign_in(api.key, after=after).headers["location"] == leads


def test_a_sum_that_is_off_is_told_loudly(api: OpsApi) -> None:
    tenant = f"{api.tenant}x"
    entered(api, entry(tenant, 1, 2, stream="crm.leads", in_rows=600, silver=590))
    with browsing(api, api.stranger_key, "/ops") as browser:
        eventually(lambda: "off by 10" in text_of(browser.get()), "the cache to lapse")
        text = text_of(browser.get("/ops?span=1h"))
    assert "The ledger does not add up. crm.leads : 10 records are unaccounted for" in text
    assert "crm.leads 2.0 600 590" in text and "lead.ingest 3333.3 999,999" in text
    assert "700" not in text


def test_a_group_leads_to_its_letters_and_to_one_that_is_masked(
    api: OpsApi, browser: Browser, owner: Connection
) -> None:
    before = len(trail(owner))
    query = {"reason": "rule:pattern", "stream": "lead.ingest", "status": "new"}
    group = browser.get("/ops/letters", params=query)
    assert [f"/ops/letters/{identity(n)}" in group.text for n in range(4)] == [True, True, True, False]
    letter = browser.get(f"/ops/letters/{identity(1)}")
    assert "text(22)" in letter.text and CANARY not in letter.text + group.text
    shown = {"dead_letter_id": identity(1), "masked": True}
    assert [(e[2], e[3]) for e in trail(owner)[before:]] == [("letters.list", query), ("letters.show", shown)]
    with api.key_of(("dlq:read", "pii:read")) as key, browsing(api, key, "/ops") as reader:
        assert CANARY in reader.get(f"/ops/letters/{identity(1)}").text


def test_a_replay_is_asked_for_planned_applied_and_told_of(browser: Browser, owner: Connection) -> None:
    before = len(trail(owner))
    path = asked(browser, reason="rule:pattern", status="new", patch=PATCH)
    assert "Waiting for its plan" in text_of(browser.get(path))
    kept = owner.execute("SELECT wanted, patch, why FROM analytics.replays").fetchall()
    wanted = {"tenant": kept[0][0]["tenant"], "reason": "rule:pattern", "status": "new"}
    assert kept == [(wanted, json.loads(PATCH), "mended")]
    planned(owner, path.rsplit("/", 1)[1])
    text = text_of(browser.get(path))
    assert "2 of 3 letters would be sent" in text and "Apply the plan" in text
    assert "gold.session_kpis : 1 row changes" in text and "session_id s-1 a new row turns — 3" in text
    assert "rule:pattern 1" in text and "loop_limit 1" in text and "leads.postgres 1" in text
    assert browser.post(f"{path}/apply").headers["location"] == path
    assert "Waiting to be sent" in text_of(browser.get(path))
    ended(owner, path.rsplit("/", 1)[1])
    assert "2 letters were sent" in text_of(browser.get(path))
    assert "mended Sent 3" in text_of(browser.get("/ops/replays"))
    assert "None in this state" in text_of(browser.get("/ops/replays?status=failed"))
    front = {"letters.stats", "replays.list"}  # which is opened for the token of its forms
    assert {*acts(owner, before)} == {
        (action, "ok") for action in front | {"replays.request", "replays.show", "replays.apply"}
    }


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"why": "x", "patch": "["}, "patch is not JSON"),
        ({"why": "x", "id": identity(1), "patch": "{}"}, "/patch must be an array"),
        ({"why": " ", "id": identity(1)}, "/why is blank"),
        ({"why": "x"}, "/filter is empty"),
        ({"why": "x", "id": "y"}, "/ids/0 is not 64 of 0-9 a-f"),
        ({"why": "x", "status": "lost"}, "/filter/status is not one of"),
    ],
)
def test_a_form_that_is_wrong_says_what_is(browser: Browser, fields: dict[str, str], says: str) -> None:
    answer = browser.post("/ops/replays", **fields)
    assert answer.status_code == 422 and says in text_of(answer)


def test_a_plan_that_is_not_there_is_not_applied(browser: Browser, owner: Connection) -> None:
    path = asked(browser, id=identity(1))
    answer = browser.post(f"{path}/apply")
    assert answer.status_code == 409 and "No job has planned this replay yet" in text_of(answer)
    ended(owner, path.rsplit("/", 1)[1], "failed", "the lake was away")
    assert "Failed: the lake was away" in text_of(browser.get(path))


def test_a_letter_is_discarded(api: OpsApi, browser: Browser) -> None:
    answer = browser.post("/ops/letters/discard", id=identity(3), why="test traffic")
    assert "1 letter is discarded" in text_of(answer)
    assert statuses(api.lake)[3] == "discarded"


def test_what_is_away_keeps_no_other_part_from_being_shown(settings: Settings, tmp_path: Path) -> None:
    postgres = settings.postgres
    away = postgres.api_dsn.replace(":15432", f":{free_port()}")
    without = settings.model_copy(update={"postgres": postgres.model_copy(update={"api_dsn": away})})
    with ops_api(tmp_path, without) as server:
        filled(server)
        broken = tmp_path / "lake" / "ops" / "quality_runs" / "_delta_log"
        for file in broken.iterdir():
            file.write_text("{")
        with browsing(server, server.key, "/ops") as browser:
            text = text_of(browser.get())
            assert browser.get("/ops/letters").status_code == 503
    assert text.count("PostgreSQL cannot be reached") == 3 and "rule:pattern" not in text
    assert "lead.ingest 0.0 700" in text and "Quality The lake cannot be read" in text


def test_a_forged_form_does_nothing(browser: Browser, owner: Connection) -> None:
    for path in ("/ops/replays", "/ops/letters/discard"):
        data = {FIELD: "0" * 64, "why": "x", "id": identity(1)}
        assert browser.http.post(path, data=data).status_code == 403
    assert owner.execute("SELECT count(*) FROM analytics.replays").fetchone() == (0,)


def test_what_changes_comes_by_events_until_the_session_ends(browser: Browser, owner: Connection) -> None:
    beat(owner, "refine.leads", lag=1)
    with browser.http.stream("GET", "/ops/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()

        def heard() -> tuple[str, dict[str, str]]:
            name = next(line for line in lines if line.startswith("event: "))
            data = next(line for line in lines if line.startswith("data: "))
            return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))

        name, parts = heard()
        assert (name, {*parts}) == ("parts", {"flow", "balance", "letters", "replays", "quality"})
        beat(owner, "refine.leads", lag=4321)
        while "flow" not in parts or "4,321" not in parts["flow"]:
            beat(owner, "refine.leads", lag=4321)
            name, parts = heard()
            assert name == "parts"
        assert browser.post("/ops/sign-out").status_code == 303
        while name == "parts":
            name, parts = heard()
        assert name == "over"


def test_listeners_of_one_key_are_bounded(browser: Browser) -> None:
    streams = []
    try:
        for _ in range(16):
            opened = browser.http.stream("GET", "/ops/events")
            assert opened.__enter__().status_code == 200
            streams.append(opened)
        assert browser.get("/ops/events").status_code == 503
    finally:
        for opened in streams:
            opened.__exit__(None, None, None)
