"""`jobs extract-marketo` as a scheduler meets it: kills, exit codes, what is told and what is not."""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest

from headwater import delta_log
from headwater.tables import table_path
from jobs.runs import SCHEMA
from local.postgres import dsn
from schemas.tables import JOB_RUNS
from tests.integration.broker import Broker, eventually
from tests.integration.jobs_harness import World
from tests.integration.marketo.harness import history
from tests.integration.marketo_server import CLIENT_ID, CLIENT_SECRET, MarketoServer, serving
from tests.integration.outgoing import records

TOPIC = "marketo.leads.delta"
NAME = "extract.marketo"
ONCE = ("extract-marketo", "--once")
KILLED = -9
Env = dict[str, str]
# A Java virtual machine that nobody can start.
NO_JVM = {"JAVA_HOME": "/nowhere", "PATH": "/nowhere"}


@pytest.fixture(scope="module")
def place(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with the one table that every job writes to, as `jobs migrate` leaves it."""
    made = World(tmp_path_factory.mktemp("marketo") / "world", broker)
    try:
        made.open()
        delta_log.create(table_path(made.settings, JOB_RUNS.full_name), SCHEMA, [], {})
        yield made
    finally:
        made.close()


@pytest.fixture
def server() -> Iterator[MarketoServer]:
    with serving(page_size=4) as made:
        yield made


@pytest.fixture
def env(server: MarketoServer) -> Env:
    """Variables of an account of the test's own."""
    account = f"acme-{uuid.uuid4().hex[:8]}"
    changes = {
        "BASE_URL": server.url, "CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET, "ACCOUNT_ID": account,
        "SINCE": "2026-03-01T12:00:00Z", "PLAIN_HOSTS": '["127.0.0.1"]', "FIELDS": '["leadScore"]',
    }  # fmt: skip
    return {f"HEADWATER_MARKETO__{name}": text for name, text in changes.items()} | NO_JVM


@pytest.fixture
def sent(place: World, env: Env) -> Callable[[], Counter[str]]:
    """Event ids of the account in the topic, each as often as it is there."""
    account = env["HEADWATER_MARKETO__ACCOUNT_ID"]
    return lambda: Counter(
        one["event_id"] for _, one in records(place.broker, TOPIC) if one["account_id"] == account
    )


def said(log: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.splitlines()]


def test_a_run_takes_all_there_is_and_says_so_without_a_jvm(
    place: World, server: MarketoServer, env: Env, sent: Callable[[], Counter[str]]
) -> None:
    history(server, 15)
    ended = place.run(*ONCE, "--run-id", "r1", **env)
    assert ended.code == 0, ended.why
    count = len(server.guids)
    assert (ended.status["status"], ended.status["rows_in"], ended.status["rows_out"]) == ("ok", count, count)
    assert sent() == Counter(server.guids)
    pages = [line for line in said(ended.log.read_text()) if line["event"] == "page"]
    assert {(line["feed"], line["more"]) for line in pages} == {
        ("changes", True), ("changes", False), ("deletions", False),
    }  # fmt: skip
    assert max(str(line["position"]) for line in pages) == "2026-03-01T12:00:26.000Z"
    calls = server.calls.total()
    assert place.done(*ONCE, "--run-id", "r1", **env)["status"] == "noop"
    assert server.calls.total() == calls
    again = place.done(*ONCE, "--run-id", "r2", **env)
    assert (again["status"], again["rows_in"]) == ("ok", 0)


@pytest.mark.parametrize(
    ("point", "nth"), [("before_write", 1), ("before_commit", 1), ("before_commit", 2), ("before_commit", 4)]
)
def test_a_kill_between_any_two_steps_loses_nothing(
    place: World,
    server: MarketoServer,
    env: Env,
    sent: Callable[[], Counter[str]],
    point: str,
    nth: int,
) -> None:
    history(server, 15)
    ended = place.run(*ONCE, HEADWATER_FAILPOINT=f"{NAME}:{point}:{nth}", **env)
    assert ended.code == KILLED, ended.why
    before = sent()
    assert set(before) < set(server.guids)
    place.done(*ONCE, **env)
    assert sorted(sent()) == server.guids
    # What the killed run had produced without moving its position comes once more, and nothing else.
    again = {guid for guid, times in sent().items() if times > 1}
    assert bool(again) == (point == "before_commit")
    assert again <= set(before) and len(again) <= server.page_size


def test_one_killed_from_outside_in_the_middle_of_an_answer_loses_nothing(
    place: World, server: MarketoServer, env: Env, sent: Callable[[], Counter[str]]
) -> None:
    history(server, 15)
    server.plan("leads", {}, {"drip_s": 20})
    job = place.start(*ONCE, **env)
    eventually(lambda: server.calls["leads"] == 2, "the second page's leads are asked for")
    assert job.kill().code == KILLED
    place.done(*ONCE, **env)
    assert sent() == Counter(server.guids)


def test_a_second_one_at_the_same_time_exits_4(place: World, server: MarketoServer, env: Env) -> None:
    history(server, 1)
    server.plan("changes", {"drip_s": 20})
    first = place.start(*ONCE, **env)
    eventually(lambda: server.calls["changes"], "the first one is at work")
    second = place.run(*ONCE, HEADWATER_METRICS__PORT="0", **env)
    first.kill()
    assert (second.code, second.status["error"].split(" (")[0]) == (4, f"{NAME} runs already"), second.why


def test_a_sigterm_ends_a_run_that_goes_on_without_once(
    place: World, server: MarketoServer, env: Env, sent: Callable[[], Counter[str]]
) -> None:
    history(server, 3)
    job = place.start("extract-marketo", HEADWATER_MARKETO__EVERY_S="0.3", **env)
    eventually(lambda: server.calls["deletions"] >= 3, "it has looked again")
    server.create(100)
    eventually(lambda: sent() == Counter(server.guids), "what is new comes, too")
    job.terminate()
    ended = job.wait()
    assert (ended.code, ended.status["rows_out"]) == (0, len(server.guids)), ended.why


@pytest.mark.parametrize(
    ("changes", "code", "error"),
    [
        ({"BASE_URL": ""}, 2, "marketo.base_url is not set"),
        ({"PLAIN_HOSTS": "[]"}, 2, "marketo.base_url must be https"),
        ({"CLIENT_SECRET": "canary-of-a-wrong-secret"}, 2, "Marketo refuses the login"),
        ({"FIELDS": '["shoeSize"]'}, 2, "Marketo does not have one of marketo.fields"),
    ],
)
def test_what_must_be_mended_exits_2(
    place: World, server: MarketoServer, env: Env, changes: Env, code: int, error: str
) -> None:
    history(server, 1)
    ended = place.run(*ONCE, **env | {f"HEADWATER_MARKETO__{name}": text for name, text in changes.items()})
    assert ended.code == code and error in ended.status["error"], ended.why


def test_the_days_quota_exits_1_at_once_and_the_next_run_goes_on(
    place: World, server: MarketoServer, env: Env, sent: Callable[[], Counter[str]]
) -> None:
    history(server, 15)
    server.plan("changes", {}, {}, {"code": "607"})
    ended = place.run(*ONCE, **env)
    assert ended.code == 1 and "code 607" in ended.status["error"], ended.why
    assert (ended.seconds < 30, server.calls["changes"], sent().total()) == (True, 3, 11)
    place.done(*ONCE, **env)
    assert sent() == Counter(server.guids)


def test_nothing_of_a_person_and_no_secret_is_told(place: World, server: MarketoServer, env: Env) -> None:
    history(server, 5)
    for call in ("changes", "leads", "deletions"):
        quoting = {"success": False, "errors": [{"code": "611", "message": "canary.1@example.com O'Canary"}]}
        server.plan(call, {"raw": json.dumps(quoting).encode()}, {"cut": True})
    server.plan("login", {"drip_s": 0.1})
    ended = place.run(*ONCE, "--status-file", str(place.folder / "status"), **env)
    shown = place.run(*ONCE, "--dry-run", **env)
    server.plan("changes", {"code": "1003", "message": "Invalid paging token: canary-of-a-token"})
    server.plan("paging_token", {"code": "603", "message": "canary"})
    refused = place.run(*ONCE, **env)
    assert (ended.code, shown.code, refused.code) == (0, 0, 2), ended.why
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", place.name)) as connection:
        rows = connection.execute("SELECT * FROM marketo_positions").fetchall()
    texts = [one.out + one.log.read_text() for one in (ended, shown, refused)]
    texts += [repr(rows), (place.folder / "status").read_text()]
    assert not [text for text in texts if "canary" in text.lower() or "Zo" in text]
    assert (
        '"outcome": "611"' in texts[0]
        and "paging_token_lost" in texts[2]
        and '"client_secret": "**********"' in texts[1]
    )
