"""Kafka that dies while ingest is in the middle of a backlog, and comes back."""

import time
from collections.abc import Callable

from tests.integration.broker import eventually
from tests.integration.jobs_harness import World, check, good
from tests.integration.lake import committed

RECORDS = 3_000
AWAY_S = 15.0


def test_a_broker_killed_in_mid_ingest_loses_and_doubles_nothing(
    world: World, prove: Callable[[World], dict[str, int]]
) -> None:
    world.send([good("acme", f"k{n}") for n in range(RECORDS)])
    job = world.start("run", "--domain", "leads", HEADWATER_STREAMS__MAX_OFFSETS_PER_TRIGGER="300")
    eventually(lambda: ingested(world) > 0, "ingest has begun", 120)
    world.broker.kill()
    assert ingested(world) < RECORDS
    back = time.monotonic() + AWAY_S
    eventually(lambda: time.monotonic() > back, "Kafka stays away for a while")
    world.broker.start()
    world.send([good("acme", f"late{n}") for n in range(10)])
    wanted = RECORDS + 10
    eventually(lambda: len(world.postgres()) == len(world.documents()) == wanted, "all is delivered", 240)
    assert job.process.poll() is None
    job.terminate()
    ended = job.wait()
    assert ended.code == 0, ended.why
    check(world)
    prove(world)


def ingested(world: World) -> int:
    bronze = world.lake / "bronze/leads"
    return len(world.places("bronze.leads")) if committed(bronze) else 0
