"""One `jobs run` through all that its servers and its clock may do to it, one fault after another.

After each: nothing restarted by hand, nothing lost or doubled, destinations equal to silver, the audit clean.
The tests share the job and its lake, and go on where the one before has stopped.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from headwater.clock import iso, utc_now
from local.places import data, log_path
from local.server import Server
from tests.integration.broker import Broker, eventually
from tests.integration.clock import DAY_S, HOUR_S, Clock
from tests.integration.elasticsearch_proxy import listening
from tests.integration.faults import canaries
from tests.integration.faults.outages import (
    ARRIVES_WITHIN_S,
    BATCH,
    Outages,
    forwarded,
    own_postgres,
)
from tests.integration.faults.refusing import REFUSED, STAGE, TRIES, Refusing, refused_letter
from tests.integration.jobs_harness import Sent, World, check, good, slice_of
from tests.integration.outgoing import check_topics, records

# So often the query falls while Elasticsearch is busy: each time the sink has insisted for a while.
RESTARTS = 1
KAFKA_AWAY_S = 15.0
# Of the servers that the tests share; Elasticsearch has a folder of its own besides.
STACK_LOGS = [log_path("elasticsearch").parent, data("elasticsearch") / "logs"]
POSTGRES, ELASTICSEARCH = "deliver.leads.postgres", "deliver.leads.elasticsearch"
BACKLOG = 6 * BATCH
# A trigger holds each row of the COPY so long: seconds in all, enough to meet it on its way.
ROW_TAKES_S = 0.02
SLOW = f"""
CREATE FUNCTION staging.hold() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_sleep({ROW_TAKES_S}); RETURN NEW; END';
CREATE TRIGGER hold BEFORE INSERT ON staging.leads FOR EACH ROW EXECUTE FUNCTION staging.hold()
"""
QUICK = "DROP TRIGGER hold ON staging.leads; DROP FUNCTION staging.hold()"
# Sessions of the job in the middle of a COPY, and how many rows they have sent.
COPYING = """
SELECT count(*), sum(tuples_processed) FROM pg_stat_progress_copy JOIN pg_stat_activity USING (pid)
WHERE usename = 'headwater_writer' AND state = 'active' AND query LIKE 'COPY%' AND tuples_processed > 0
"""
# How far ahead the driver's clock is, and whether it is set while a batch is under way.
STEPS = [(-HOUR_S, False), (0, True), (DAY_S, False), (0, False), (-HOUR_S, True)]


@pytest.fixture(scope="module")
def outages(
    broker: Broker, prove: Callable[[World], dict[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outages]:
    folder = tmp_path_factory.mktemp("outages")
    with ExitStack() as held:
        proxy = held.enter_context(listening())
        postgres = held.enter_context(own_postgres())
        world = World(folder / "world", broker)
        held.callback(world.close)
        world.open()
        before_postgres, before_index = held.enter_context(forwarded(world, proxy))
        clock = Clock(folder)
        world.env |= clock.env
        made = Outages(world, postgres, before_postgres, proxy, before_index, clock, prove)
        made.start()
        held.callback(made.end)
        yield made


@pytest.fixture(autouse=True)
def mended(outages: Outages) -> Iterator[None]:
    """Whatever a test has taken away is back for the next one, even if it failed."""
    yield
    outages.mend()


def test_postgresql_away_delays_only_itself(outages: Outages) -> None:
    outages.send(canaries.slice_of(0))
    outages.settles()
    outages.before_postgres.close()
    outages.send(canaries.slice_of(1))
    outages.all_in(outages.in_index)
    assert outages.in_postgres() == 10
    outages.before_postgres.open()
    outages.settles()


def test_elasticsearch_away_delays_only_itself(outages: Outages) -> None:
    there = outages.in_index()
    outages.before_elasticsearch.close()
    outages.send(canaries.slice_of(2))
    outages.all_in(outages.in_postgres)
    assert outages.in_index() == there
    outages.before_elasticsearch.open()
    outages.settles()


def test_an_elasticsearch_that_is_too_busy_makes_no_dead_letters(outages: Outages) -> None:
    there, letters = outages.in_index(), len(outages.letters())
    enough = outages.restarts(ELASTICSEARCH) + RESTARTS
    outages.elasticsearch.fail("request", 429)
    outages.send([good("acme", f"busy{n}") for n in range(40)])
    outages.all_in(outages.in_postgres)
    eventually(lambda: outages.restarts(ELASTICSEARCH) >= enough, "it stays busy", ARRIVES_WITHIN_S)
    assert (outages.in_index(), len(outages.letters())) == (there, letters)
    outages.elasticsearch.fault = None
    outages.settles()


def test_documents_that_elasticsearch_refuses_become_dead_letters_alone(outages: Outages) -> None:
    outages.elasticsearch.refuse = refusing = Refusing()
    places = outages.send(refused("first"))
    outages.send([good("acme", f"mixed{n}") for n in range(40)])
    outages.settles()
    assert max(refusing.seen.values()) > TRIES
    outages.elasticsearch.refuse = None
    check_letters(outages, dict(zip(places, refused("first"), strict=True)))


def refused(name: str) -> list[Sent]:
    """Leads that only Elasticsearch does not take."""
    leads = [good("globex", f"{name}{n}.{kind}", source=kind) for kind in REFUSED for n in range(3)]
    return [replace(lead, unindexed=True) for lead in leads]


def check_letters(outages: Outages, sent: dict[tuple[str, int, int], Sent]) -> None:
    """Each of these has its dead letter of the sink, with the server's reason and the record's own bytes."""
    rows = [row for row in outages.letters() if row["stage"] == STAGE]
    told = {(row["source_topic"], row["source_partition"], row["source_offset"]): row for row in rows}
    for place, record in sent.items():
        assert refused_letter(record).items() <= told[place].items()


def test_a_postgresql_that_crashes_in_mid_copy_takes_the_whole_batch_or_nothing(outages: Outages) -> None:
    before, restarts = outages.in_postgres(), outages.restarts(POSTGRES)
    outages.superuser(SLOW)
    outages.send([good("acme", f"crash{n}") for n in range(BATCH)])
    (sessions, rows), *_ = eventually(lambda: copying(outages), "deliver is in a COPY", ARRIVES_WITHIN_S)
    crash(outages.postgres)
    assert sessions and 0 < rows < BATCH
    outages.postgres.start()
    assert outages.in_postgres() == before
    outages.superuser(QUICK)
    outages.send(slice_of(0))
    outages.settles()
    assert outages.restarts(POSTGRES) > restarts


def copying(outages: Outages) -> list[tuple[int, int]]:
    return [(row[0], row[1]) for row in outages.superuser(COPYING) if row[0]]


def crash(server: Server) -> None:
    """Immediate mode: no checkpoint, no goodbye; the next start recovers from the log."""
    running = server.running
    assert running is not None
    os.kill(running.pid, signal.SIGQUIT)
    eventually(lambda: not running.alive, "the server has crashed")


def test_a_broker_killed_in_mid_ingest_loses_and_doubles_nothing(outages: Outages) -> None:
    before = outages.ingests([good("acme", f"backlog{n}") for n in range(BACKLOG)])
    outages.world.broker.kill()
    assert outages.ingested() < before + BACKLOG
    back = time.monotonic() + KAFKA_AWAY_S
    eventually(lambda: time.monotonic() > back, "Kafka stays away for a while")
    outages.world.broker.start()
    outages.send([good("acme", f"later{n}") for n in range(10)])
    outages.settles()


def test_a_drivers_clock_that_is_set_stops_nothing(outages: Outages) -> None:
    for number, (ahead_s, under_way) in enumerate(STEPS, start=1):
        # Leads of now by a clock that is right, too.
        now = [good("acme", f"now{number}.{n}", received_at=iso(utc_now())) for n in range(5)]
        if under_way:
            outages.ingests([*slice_of(number), *now])  # so that refine has them in hand
            outages.clock.set(ahead_s)
        else:
            outages.clock.set(ahead_s)
            outages.send([*slice_of(number), *now])
        outages.settles()


def test_afterwards_it_stops_with_0_all_agree_and_nobody_is_named_anywhere(outages: Outages) -> None:
    world = outages.world
    (world.folder / "metrics.txt").write_text(canaries.metrics_of(world))
    assert outages.job is not None
    outages.job.terminate()
    ended = outages.job.wait()
    assert ended.code == 0, ended.why

    outages.elasticsearch.refuse = Refusing()
    late = refused("late")
    places = world.send(late)
    world.done("run", "--domain", "leads", "--once")
    check_letters(outages, dict(zip(places, late, strict=True)))
    check(world)
    check_topics(world)
    check_outbox(outages)
    outages.prove(world)
    world.done("reconcile", "--domain", "leads")
    assert canaries.found(world, [*STACK_LOGS, log_path("postgres").parent]) == {}
    refusals = [row for row in outages.letters() if b'"consent": false' in row["payload"]]
    assert refusals == []


def check_outbox(outages: Outages) -> None:
    """Each lead was announced once, with the version that it has, and lead.captured has them all."""
    announced = outages.superuser("SELECT lead_id::text, row_version FROM lead_outbox")
    there = outages.world.postgres().values()
    assert Counter(announced) == Counter((row["id"], row["row_version"]) for row in there)
    told = records(outages.world.broker, "lead.captured")
    assert {(value["id"], value["row_version"]) for _, value in told} == set(announced)
