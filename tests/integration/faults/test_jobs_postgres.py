"""PostgreSQL that crashes as a whole in the middle of deliver's COPY, and comes up again."""

import os
import shutil
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from headwater.settings import load_settings
from local import places, process
from local.postgres import SERVER, dsn
from local.server import Server
from tests.integration.api_server import free_port
from tests.integration.broker import eventually
from tests.integration.jobs_harness import World, check, good, slice_of
from tests.integration.outgoing import check_topics, records

LEADS = 400
# A trigger holds each row of the COPY so long: seconds in all, enough to meet it on its way.
ROW_TAKES_S = 0.05
_ARRIVES_WITHIN_S = 180.0
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


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The local stack's PostgreSQL once more: its binaries, with data, log and port of the test's own."""
    stack = places.state()
    own = places.make_folder(stack / f"test-{uuid.uuid4().hex[:8]}")
    (own / "dist").symlink_to(stack / "dist")
    for module in (places, process):
        monkeypatch.setattr(module, "state", lambda: own)
    monkeypatch.setenv("HEADWATER_PORT_POSTGRES", str(free_port()))
    load_settings.cache_clear()
    try:
        SERVER.start()
        yield SERVER
    finally:
        SERVER.stop()
        load_settings.cache_clear()
        shutil.rmtree(own)


@pytest.fixture
def world(postgres: Server, world: World) -> World:
    """As the other tests' world, with its database on this test's server, which is up before it is made."""
    return world


def test_a_server_that_crashes_in_mid_copy_loses_and_doubles_nothing(
    world: World, postgres: Server, prove: Callable[[World], dict[str, int]]
) -> None:
    job = world.start("run", "--domain", "leads")
    world.send(slice_of(0))
    eventually(lambda: len(world.postgres()) == 10, "PostgreSQL has slice 0", _ARRIVES_WITHIN_S)

    superuser(world, SLOW)
    world.send([good("acme", f"k{n}") for n in range(LEADS)])
    (sessions, rows), *_ = eventually(lambda: copying(world), "deliver is in a COPY", _ARRIVES_WITHIN_S)
    crash(postgres)
    assert sessions and 0 < rows < LEADS
    postgres.start()
    assert len(world.postgres()) in (10, 10 + LEADS)  # the batch is whole or not there
    superuser(world, QUICK)

    world.send(slice_of(1))
    wanted = 20 + LEADS
    eventually(lambda: len(world.postgres()) == wanted, "PostgreSQL catches up", _ARRIVES_WITHIN_S)
    job.terminate()
    ended = job.wait()
    assert ended.code == 0, ended.why
    assert "query_restarts" in ended.log.read_text()
    world.done("run", "--once")
    check(world)
    check_topics(world)
    check_outbox(world)
    prove(world)
    world.done("reconcile", "--domain", "leads")


def superuser(world: World, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn("postgres", "postgres-superuser", world.name), autocommit=True) as server:
        cursor = server.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def copying(world: World) -> list[tuple[Any, ...]]:
    return [row for row in superuser(world, COPYING) if row[0]]


def crash(server: Server) -> None:
    """Immediate mode: no checkpoint, no goodbye; the next start recovers from the log."""
    running = server.running
    assert running is not None
    os.kill(running.pid, signal.SIGQUIT)
    eventually(lambda: not running.alive, "the server has crashed")


def check_outbox(world: World) -> None:
    """Each lead was announced once, with the version that it has, and lead.captured has them all."""
    announced = superuser(world, "SELECT lead_id::text, row_version FROM lead_outbox")
    assert Counter(announced) == Counter((row["id"], row["row_version"]) for row in world.postgres().values())
    captured = {(value["id"], value["row_version"]) for _, value in records(world.broker, "lead.captured")}
    assert captured == set(announced)
