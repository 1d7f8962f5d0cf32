"""Leads → outbox → a connector, by real HTTP and a real PostgreSQL: what is sent, how often, what stays."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from headwater.errors import SetupError
from headwater.identity import event_id
from headwater.settings import ROOT, Settings
from local.postgres import dsn
from local.receiver import Receiver
from sinks.webhook.addresses import Allowed
from sinks.webhook.schedule import Breaker, State
from sinks.webhook.transport import CheckedBackend
from tests.conftest import RECEIVER_SECRET as SECRET
from tests.integration.outbox_harness import Leads, lead
from tests.integration.webhooks.harness import STATE, Make, due_now, letters, run

CANARY = "canary.person"
KILLED = -9


# What is sent


def test_a_captured_lead_is_posted_once_signed_under_its_key(
    leads: Leads, make: Make, receiver: Receiver
) -> None:
    loop = make()
    leads.write(lead("a", 7))
    run(loop)
    (seen,) = receiver.seen()
    assert (seen["key"], seen["signed"], seen["path"]) == (f"crm:{event_id('acme', 'a')}", True, "/hook")
    assert seen["body"] == {"email": "a@example.com", "key": "a", "version": 7}
    assert leads.ask(STATE) == [("delivered", 1, 200, None)]


def test_a_later_version_of_the_same_event_is_not_another_delivery(
    leads: Leads, make: Make, receiver: Receiver
) -> None:
    loop = make()
    leads.write(lead("a", 1))
    run(loop)
    leads.write(lead("a", 2), lead("b", 2))
    run(loop)
    assert [seen["body"]["key"] for seen in receiver.seen()] == ["a", "b"]


def test_a_new_connector_begins_with_the_leads_from_then_on(
    leads: Leads, make: Make, receiver: Receiver
) -> None:
    leads.write(lead("before"))
    loop = make()
    leads.write(lead("after"))
    run(loop)
    assert [seen["body"]["key"] for seen in receiver.seen()] == ["after"]


def test_from_start_sends_what_was_not_delivered_yet(leads: Leads, make: Make, receiver: Receiver) -> None:
    leads.write(lead("before"))
    loop = make()
    leads.write(lead("after"))
    run(loop)
    run(make(from_start=True))
    assert [seen["body"]["key"] for seen in receiver.seen()] == ["after", "before"]


def test_a_rebuild_of_leads_sends_nothing_again(leads: Leads, make: Make, receiver: Receiver) -> None:
    loop = make()
    leads.write(lead("a"), lead("b"))
    run(loop)
    leads.sink.reset()
    leads.write(lead("a"), lead("b"))
    run(loop)
    assert len(receiver.seen()) == 2


def test_only_leads_of_the_listed_tenants_are_sent(leads: Leads, make: Make, receiver: Receiver) -> None:
    loop = make(tenants=("globex",))
    leads.write(lead("a"), lead("g", tenant="globex"))
    run(loop)
    assert [seen["body"]["key"] for seen in receiver.seen()] == ["g"]


# What answers do


@pytest.mark.parametrize(
    ("plan", "status", "error"),
    [
        ({"status": 500}, 500, None),
        ({"status": 503}, 503, None),
        ({"status": 429}, 429, None),
        ({"status": 408}, 408, None),
        ({"drop": True}, None, "protocol"),
        ({"delay_s": 3}, None, "timeout"),
        ({"drip_s": 3}, None, "timeout"),
    ],
)
def test_what_may_pass_is_tried_again_under_the_same_key(
    leads: Leads, make: Make, receiver: Receiver, plan: dict[str, Any], status: int | None, error: str | None
) -> None:
    receiver.plan([plan])
    loop = make(timeout_s=0.5 if error == "timeout" else 5)
    leads.write(lead("a"))
    run(loop)
    assert leads.ask(STATE) == [("pending", 1, status, error)]
    assert leads.ask("SELECT next_attempt_at > now() + '8 s' FROM webhook_deliveries") == [(True,)]
    due_now(leads)
    run(make(timeout_s=5))
    assert leads.ask(STATE) == [("delivered", 2, 200, None)]
    assert len({seen["key"] for seen in receiver.seen()}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 301, 302, 307, 308])
def test_what_will_not_pass_is_a_dead_letter_at_once(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings, status: int
) -> None:
    receiver.plan([{"status": status, "headers": {"Location": f"{receiver.url}/elsewhere"}}])
    loop = make()
    leads.write(lead("a", 5))
    run(loop)
    assert leads.ask(STATE) == [("dead", 1, status, None)]
    (letter,) = letters(settings)
    reason = letter["reasons"][0]
    assert (reason["code"], reason["message"]) == ("sink_rejected", f"the connector gave status {status}")
    assert (letter["source_offset"], letter["event_id"], letter["payload"], letter["failed_sinks"]) == (
        5, event_id("acme", "a"), None, ["webhook-crm"],
    )  # fmt: skip
    assert [seen["path"] for seen in receiver.seen()] == ["/hook"], "a redirect was followed"


def test_after_seventy_two_hours_it_is_given_up(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings
) -> None:
    receiver.plan([{"status": 503, "times": 2}])
    loop = make()
    leads.write(lead("a"))
    run(loop)
    leads.connection.execute("UPDATE webhook_deliveries SET pending_since = now() - interval '72 h'")
    due_now(leads)
    run(loop)
    assert leads.ask(STATE) == [("dead", 2, 503, None)]
    assert [letter["reasons"][0]["code"] for letter in letters(settings)] == ["gave_up"]


def test_retry_after_is_honoured(leads: Leads, make: Make, receiver: Receiver) -> None:
    receiver.plan([{"status": 429, "headers": {"Retry-After": "600"}}])
    loop = make()
    leads.write(lead("a"))
    run(loop)
    (wait,) = leads.ask("SELECT extract(epoch FROM next_attempt_at - now())::int FROM webhook_deliveries")
    assert 590 <= wait[0] <= 600


def test_an_endless_answer_is_read_no_further_than_a_few_kilobytes(
    leads: Leads, make: Make, receiver: Receiver
) -> None:
    receiver.plan([{"status": 200, "bytes": 50_000_000}])
    loop = make()
    leads.write(lead("a"))
    run(loop)
    assert leads.ask(STATE) == [("delivered", 1, 200, None)]


def test_the_breaker_opens_after_five_failures_and_a_probe_closes_it(
    leads: Leads, make: Make, receiver: Receiver
) -> None:
    receiver.plan([{"status": 500, "times": 6}])
    loop = make(concurrency=1)
    now = [0.0]
    loop.breaker = Breaker(clock=lambda: now[0])
    leads.write(*(lead(f"k{number}") for number in range(12)))
    run(loop)
    assert (len(receiver.seen()), loop.breaker.state) == (5, State.OPEN)
    now[0] = 60.0
    loop.step()
    assert (len(receiver.seen()), loop.breaker.state) == (6, State.OPEN)
    now[0] = 120.0
    run(loop)
    due_now(leads)
    run(loop)
    assert {row[0] for row in leads.ask(STATE)} == {"delivered"}


# Crashes and company


@pytest.mark.parametrize(("point", "plan"), [("after_write", {}), ("before_commit", {"status": 404})])
def test_a_kill_repeats_what_was_not_written_down(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings, point: str, plan: dict[str, Any]
) -> None:
    receiver.plan([plan])
    make()
    leads.write(lead("a"))
    script = (
        "import json, sys; from headwater.failpoints import arm; from headwater.settings import Connector;"
        "from tests.integration.outbox_harness import context, settings_of;"
        "from jobs.webhooks import Webhook; arm('local');"
        "crm = Connector.model_validate(json.loads(sys.argv[2]));"
        "there = settings_of(sys.argv[1], lake=sys.argv[3], connectors={'crm': crm});"
        "loop = Webhook(context(there), 'crm');"
        "loop.prepare(); loop.step()"
    )
    crm = settings.connectors["crm"].model_dump(mode="json") | {"secret": SECRET}
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    done = subprocess.run(
        [sys.executable, "-c", script, database, json.dumps(crm), settings.lake],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HEADWATER_FAILPOINT": f"deliver.leads.webhook-crm:{point}"},
        timeout=60,
    )
    assert done.returncode == KILLED
    (lease,) = leads.ask("SELECT max(next_attempt_at) < now() + interval '63 s' FROM webhook_deliveries")
    assert lease == (True,)
    again = make()
    run(again)
    due_now(leads)  # the killed one's lease is over
    run(again)
    keys = [seen["key"] for seen in receiver.seen()]
    if point == "after_write":
        assert keys == [f"crm:{event_id('acme', 'a')}"] * 2
        assert leads.ask(STATE) == [("delivered", 2, 200, None)]
    else:
        assert (len(keys), len(letters(settings))) == (1, 1)
        assert leads.ask("SELECT lettered_at IS NOT NULL FROM webhook_deliveries") == [(True,)]


def test_two_workers_never_send_the_same_delivery_at_once(
    leads: Leads, make: Make, receiver: Receiver
) -> None:
    receiver.plan([{"delay_s": 0.01, "times": 200}])
    workers = [make(), make()]
    leads.write(*(lead(f"k{number}") for number in range(200)))
    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):  # on a busy machine a request may not get through: it comes due again
            due_now(leads)
            list(pool.map(run, workers))
    assert {row[0] for row in leads.ask(STATE)} == {"delivered"}
    assert len({seen["key"] for seen in receiver.seen()}) == 200
    assert {seen["at_once"] for seen in receiver.seen()} == {1}


def test_a_lead_that_is_missing_waits_for_the_rebuild_and_is_gone_after_the_patience(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings
) -> None:
    loop = make()
    leads.write(lead("back"), lead("erased"))
    loop.deliveries.enqueue((), 10)
    leads.sink.reset()
    run(loop)
    assert leads.ask(STATE) == [("pending", 1, None, "lead_missing")] * 2
    leads.write(lead("back"))
    leads.connection.execute("UPDATE webhook_deliveries SET pending_since = now() - interval '72 h'")
    due_now(leads)
    run(loop)
    assert sorted(row[0] for row in leads.ask(STATE)) == ["delivered", "gone"]
    assert letters(settings) == []


# Set-up


def test_a_private_address_that_is_not_listed_stops_the_connector(leads: Leads, make: Make) -> None:
    with pytest.raises(SetupError, match=r"connectors\.crm: the host is a private address"):
        make(allow_private=())


def test_a_name_that_turns_private_later_is_never_dialled(
    leads: Leads, make: Make, receiver: Receiver
) -> None:
    url = receiver.url.replace("http://127.0.0.1", "https://localhost")
    loop = make(url=url, allow_private=("localhost",))
    loop.backend = CheckedBackend(Allowed.parse("crm", ()), tls=True)
    leads.write(lead("a"))
    run(loop)
    assert leads.ask(STATE) == [("pending", 1, None, "address_refused")]
    assert receiver.seen() == []


@pytest.mark.parametrize(
    ("changes", "why"), [({"url": None}, "url is not set"), ({"secret": None}, "secret")]
)
def test_what_a_connector_lacks_is_named(make: Make, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SetupError, match=why):
        make(**changes)


def test_no_log_and_no_error_holds_the_person(
    leads: Leads, make: Make, receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    receiver.plan([{"status": 404}, {"status": 500}])
    loop = make(concurrency=1)
    leads.write(lead(CANARY), lead(f"{CANARY}2"))
    run(loop)
    seen = capfd.readouterr()
    rows = leads.ask("SELECT d::text FROM webhook_deliveries d")
    assert CANARY not in seen.out + seen.err + str(rows)


@pytest.mark.parametrize("role", ["reader", "api"])
def test_other_roles_see_no_delivery(leads: Leads, settings: Settings, role: str) -> None:
    database = settings.postgres.dsn.rsplit("/", 1)[1]
    with (
        psycopg.connect(dsn(f"headwater_{role}", f"postgres-{role}", database)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT 1 FROM webhook_deliveries")
