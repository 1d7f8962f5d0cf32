"""Clocks set back by an hour and ahead by a day: of the API, and of whoever posts to connectors."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from headwater.clock import utc_now
from headwater.settings import load_settings
from local.postgres import dsn
from local.receiver import Receiver
from tests.conftest import RECEIVER_SECRET
from tests.integration.api_server import ISSUER, ApiServer, mint, running_api
from tests.integration.broker import Broker, eventually
from tests.integration.clock import DAY_S, HOUR_S, Clock
from tests.integration.jobs_harness import Here, Prove, World, check_destinations, good

DELIVER = ("deliver", "--domain", "leads", "--to", "webhook-crm", "--once")
DUE = "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending' AND next_attempt_at <= now()"
ENDED = "SELECT status, attempts FROM webhook_deliveries"


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


def test_leads_that_an_api_receives_by_a_wrong_clock_are_all_kept_and_the_first_of_each_key_stays(
    world: World, clock: Clock, here: Here, prove: Prove, tmp_path: Path
) -> None:
    first: dict[str, str] = {}
    by_token = []
    away = {"HEADWATER_KAFKA__BOOTSTRAP": world.broker.bootstrap}
    with running_api(tmp_path, **away, **clock.env) as server:
        bearer = {"Authorization": f"Bearer {token(server)}"}
        for number, ahead_s in enumerate((0, -HOUR_S, DAY_S, 0)):
            clock.set(ahead_s)
            for key in ("same", f"k{number}"):
                answer = post(server, key)
                assert answer["status"] == "accepted"
                first.setdefault(key, answer["received_at"])
                told = datetime.fromisoformat(answer["received_at"]) - utc_now()
                assert abs(told - timedelta(seconds=ahead_s)) < timedelta(seconds=30)
            by_token.append(status(server, f"token{number}", bearer))
    # A token is dated: by a wrong clock it is of the future, or has expired. By a right one it is good again.
    assert by_token == [202, 401, 401, 202]

    here(world, "run")
    silver = world.silver()
    assert {key for _, key in silver} == {*first, "token0", "token3"}
    for key, received_at in first.items():
        assert silver[server.tenant, key]["received_at"] == datetime.fromisoformat(received_at)
    check_destinations(world)
    assert prove(world)["left_duplicate"] == 3
    here(world, "reconcile")


def token(server: ApiServer) -> str:
    now = int(utc_now().timestamp())
    claims = {"iss": ISSUER, "aud": "headwater-api", "sub": "u", "tenant_id": server.tenant}
    return mint(server.signing_key, claims | {"scope": "ingest:write", "iat": now, "exp": now + 600})


def event(key: str) -> dict[str, Any]:
    return {"source": "web", "idempotency_key": key, "payload": {"email": "ann@example.com", "consent": True}}


def post(server: ApiServer, key: str) -> dict[str, Any]:
    with server.client() as client:
        answer = client.post("/ingest", json=event(key))
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def status(server: ApiServer, key: str, headers: dict[str, str]) -> int:
    return httpx.post(f"{server.url}/ingest", json=event(key), headers=headers, timeout=30).status_code


def test_whoever_used_up_the_rate_is_taken_again_within_seconds_whatever_the_clock_does(
    broker: Broker, clock: Clock, tmp_path: Path
) -> None:
    kafka = load_settings("local").kafka.model_copy(update={"bootstrap": broker.bootstrap})
    broker.remake_topics(load_settings("local").model_copy(update={"kafka": kafka}))
    env = {"HEADWATER_KAFKA__BOOTSTRAP": broker.bootstrap, "HEADWATER_REDIS__URL": "redis://127.0.0.1:1/0"}
    env |= {"HEADWATER_API__RATE_PER_SECOND": "2", "HEADWATER_API__RATE_BURST": "4"}
    with running_api(tmp_path, **env, **clock.env) as server:
        key = {"X-API-Key": server.key}
        for ahead_s in (0, DAY_S, 0, -HOUR_S, 0):
            assert 429 in [status(server, "one", key) for _ in range(20)]
            clock.set(ahead_s)
            eventually(lambda: status(server, "one", key) == 202, "the rate lets events in again", 10)


def test_deliveries_are_signed_and_tried_again_by_the_databases_clock(
    world: World, clock: Clock, receiver: Receiver
) -> None:
    (world.folder / "secret").write_text(RECEIVER_SECRET)
    crm = {"URL": f"{receiver.url}/crm", "SECRET_FILE": str(world.folder / "secret")}
    crm["ALLOW_PRIVATE"] = json.dumps(["127.0.0.0/8"])
    env = {f"HEADWATER_CONNECTORS__CRM__{name}": value for name, value in crm.items()} | clock.env
    world.send([good("acme", f"k{n}") for n in range(3)])
    world.done("run", "--domain", "leads", "--once")

    receiver.plan([{"status": 503, "times": 3}])
    clock.set(DAY_S)
    world.done(*DELIVER, "--from-start", **env)
    assert [(seen["signed"], seen["answer"]) for seen in receiver.seen()] == [(True, 503)] * 3
    clock.set(0)
    eventually(lambda: ask(world, DUE) == [(3,)], "all are due again", 30)
    clock.set(-HOUR_S)
    world.done(*DELIVER, **env)
    assert ask(world, ENDED) == [("delivered", 2)] * 3


def ask(world: World, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", world.name)) as connection:
        return connection.execute(query.encode()).fetchall()
