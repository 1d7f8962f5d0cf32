"""A loop of the CRM under the runtime, on a real PostgreSQL and Kafka: stopped and started within seconds."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.settings import Settings
from jobs.control import Control, ControlTables, Told
from jobs.enqueued import Enqueued
from jobs.runtime import Runtime
from tests.integration.broker import eventually
from tests.integration.outbox_harness import context

# Its fixtures: a migrated database, a topic of the test's own, the queue as the API fills it.
from tests.integration.test_enqueued import Queue, Topic, queue, settings, topic

__all__ = ["queue", "settings", "topic"]
FOLLOWS_S = 5.0
NAME = "deliver.crm.enqueued"
STATE = "SELECT state FROM analytics.query_states WHERE query = %s AND updated_at > %s"
WISH = "UPDATE analytics.domain_control SET desired = %s"


def while_it_runs(settings: Settings, script: Callable[[], Any]) -> None:
    """The runtime in this thread, the script in another, then SIGTERM."""
    faults: list[BaseException] = []

    def play() -> None:
        try:
            script()
        except BaseException as fault:  # it is raised by the test
            faults.append(fault)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=play)
    made = context(settings)
    runtime = Runtime(made, once=False, control=Control(ControlTables(settings)))
    loop = Enqueued(made)
    thread.start()
    runtime.run([loop])
    thread.join()
    for fault in faults:
        raise fault


def test_a_wish_is_followed_within_five_seconds_and_holds_across_a_restart(
    settings: Settings, topic: Topic, queue: Queue, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"lake": str(tmp_path)})
    place = topic.send(b"k", b"v")
    started: list[Any] = []

    def says(state: str) -> bool:
        """The runtime that was started last."""
        return queue.connection.execute(STATE.encode(), (NAME, started[-1])).fetchall() == [(state,)]

    def wish(desired: str, state: str) -> None:
        queue.connection.execute(WISH.encode(), (desired,))
        eventually(lambda: says(state), f"{state} in time", FOLLOWS_S)

    def stop() -> None:
        eventually(lambda: says("running"), "it runs")
        wish("stopped", "stopped")
        queue.enter(topic.name, *place)
        time.sleep(2)
        assert [end for end, _ in queue.ends().values()] == ["waiting"]

    def start() -> None:
        eventually(lambda: says("stopped"), "it is still stopped")
        time.sleep(2)
        assert [end for end, _ in queue.ends().values()] == ["waiting"]
        wish("running", "running")
        eventually(lambda: [end for end, _ in queue.ends().values()] == ["done"], "it is sent", FOLLOWS_S)

    for script in (stop, start):
        started.append(queue.connection.execute("SELECT now()").fetchall()[0][0])
        while_it_runs(settings, script)
    assert says("stopped") and len(topic.records()) == 2


def test_a_heartbeat_that_knows_less_keeps_what_was_known(settings: Settings, queue: Queue) -> None:
    tables = ControlTables(settings)
    moment = queue.connection.execute("SELECT now()").fetchall()[0][0]
    tables.tell([Told("q.crm", "crm", "running", 7, moment, 12.5)])
    tables.tell([Told("q.crm", "crm", "starting")])
    kept = "SELECT state, lag, last_batch_at, batch_ms_p95 FROM analytics.query_states WHERE query = 'q.crm'"
    assert queue.connection.execute(kept.encode()).fetchall() == [("starting", None, moment, 12.5)]
    assert tables.read() == {"crm": "running"}
    tables.close()
