"""The domain interactions from Kafka to its destinations, with kills between two rounds of traffic."""

from collections import Counter
from collections.abc import Iterator

import pytest
from redis import Redis

from local.redis import admin
from local.traffic import Event, Kind, Mix
from local.traffic_interactions import SHARES, interactions
from tests.integration.interactions_harness import check, check_gold, check_redis
from tests.integration.jobs_harness import Here, Sent, World
from tests.integration.lake import Row

KILLS = (
    "refine.interactions:after_write",
    "build.usage:after_write",
    "deliver.interactions.postgres:in_transaction",
)
OUTCOMES = {Kind.VALID: "silver", Kind.DUPLICATE: "duplicate", Kind.BROKEN: "dead"}
DOMAIN = "interactions"
RUN = ("run", "--domain", DOMAIN, "--once")
NUMBER = 14  # of a database in Redis that nothing else uses


@pytest.fixture
def client(world: World) -> Iterator[Redis]:
    """Redis, with an empty database that the world's jobs write to."""
    url = f"{world.settings.redis.url.rsplit('/', 1)[0]}/{NUMBER}"
    world.env["HEADWATER_REDIS__URL"] = url
    redis = world.settings.redis.model_copy(update={"url": url})
    world.settings = world.settings.model_copy(update={"redis": redis})
    with admin(NUMBER) as made:  # the writer may not empty it
        made.flushdb()
        yield made
        made.flushdb()


def sent(event: Event) -> Sent:
    return Sent(event.body, OUTCOMES[event.kind], event.tenant, event.key, event.code, event.topic)


def test_kills_between_two_rounds_leave_what_sql_over_silver_finds(
    world: World, here: Here, client: Redis
) -> None:
    mix = Mix(duplicate=0.1, broken=0.1, no_consent=0)
    events = [sent(event) for event in interactions(1200, run="k-", seed=11, mix=mix)]
    world.send(events[:600])
    here(world, "run", DOMAIN)
    world.send(events[600:])
    for failpoint in KILLS:
        ended = world.run(*RUN, HEADWATER_FAILPOINT=failpoint)
        assert ended.code == -9, f"{failpoint}: {ended.why}"
    here(world, "run", DOMAIN)
    check_records(world)
    here(world, "audit", DOMAIN)
    check_gold(world.settings)
    check(world.settings, world.name)
    check_redis(world.settings, client)


def check_records(world: World) -> None:
    """Each record is in bronze once, and has the outcome that its sender expects."""
    assert world.places("bronze.interactions") == sorted(world.sent)
    expected = {stream: Counter[str]() for stream in SHARES}
    for record in world.sent.values():
        expected[record.topic].update({"in_rows": 1, record.outcome: 1})
    found = {stream: Counter[str]() for stream in SHARES}
    for row in world.table("ops.ledger"):
        if row["query"] == "refine.interactions":
            found[row["stream"]].update(counts(row))
    assert found == expected
    letters = Counter(row["reasons"][0]["code"] for row in world.table("ops.dead_letters"))
    assert letters == Counter(record.reason for record in world.sent.values() if record.outcome == "dead")


def counts(row: Row) -> dict[str, int]:
    return {name: row[name] for name in ("in_rows", "silver", "duplicate", "dead") if row[name]}
