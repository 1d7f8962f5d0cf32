"""Destinations that go away while jobs run, and what logs and metrics say of the people in the records."""

import json
import secrets
import select
import socket
import socketserver
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sized
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.places import log_path
from tests.integration.broker import eventually
from tests.integration.jobs_harness import Sent, World, check, dead, good, refused

MARK = secrets.token_hex(4)  # so that no log of an earlier run can be meant
CANARIES = {
    "payload__email": f"canary.{MARK}@example.com",
    "payload__phone": "+14155550199",
    "payload__first_name": f"Canary{MARK}",
    "payload__message": f"my secret is hunter{MARK}",
}
BROKEN_CANARIES = CANARIES | {"payload__email": f"canary.{MARK} at example.com"}
WORDS = (f"canary.{MARK}", "4155550199", f"Canary{MARK}", f"hunter{MARK}")


class Forwarder:
    """A port before a server; closed, it refuses connections and cuts those that are open."""

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self.target = (host, int(port))
        self._server: socketserver.ThreadingTCPServer | None = None
        self._open: set[socket.socket] = set()
        self.port = 0
        self.open()

    def open(self) -> None:
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._carry(self.request)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._server = None
        for end in list(self._open):
            with_shutdown(end)

    def _carry(self, near: socket.socket) -> None:
        with socket.create_connection(self.target) as far:
            ends = {near, far}
            self._open |= ends
            try:
                while ready := select.select([near, far], [], [])[0]:
                    for end in ready:
                        if not (data := end.recv(65_536)):
                            return
                        (far if end is near else near).sendall(data)
            except OSError:
                return
            finally:
                self._open -= ends
                with_shutdown(near)


def with_shutdown(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:  # it was closed by the other side
        return


@pytest.fixture
def before_postgres(world: World) -> Iterator[Forwarder]:
    address = urlsplit(world.dsn)
    with closing(Forwarder(f"{address.hostname}:{address.port}")) as made:
        world.env["HEADWATER_POSTGRES__DSN"] = world.dsn.replace(f":{address.port}/", f":{made.port}/")
        yield made


@pytest.fixture
def before_elasticsearch(world: World) -> Iterator[Forwarder]:
    address = urlsplit(world.settings.elasticsearch.url)
    with closing(Forwarder(f"{address.hostname}:{address.port}")) as made:
        world.env["HEADWATER_ELASTICSEARCH__URL"] = f"http://127.0.0.1:{made.port}"
        yield made


def slice_of(number: int) -> list[Sent]:
    """Leads of people whose data must be found nowhere but in the tables."""
    return [
        *[good("acme", f"s{number}.{n}", **CANARIES) for n in range(10)],
        good("acme", f"s{number}.0", "duplicate", **CANARIES),
        dead("acme", f"b{number}", "rule:pattern", **BROKEN_CANARIES),
        dead("acme", f"c{number}", "rule:max_length", source=f"hunter{MARK}" * 9, **CANARIES),
        refused("acme", f"n{number}", **BROKEN_CANARIES),
    ]


def test_a_destination_that_is_away_delays_only_itself_and_nobody_is_named_anywhere(
    world: World,
    before_postgres: Forwarder,
    before_elasticsearch: Forwarder,
    prove: Callable[[World], dict[str, int]],
) -> None:
    events = world.folder / "events"
    events.mkdir()
    spark = {"spark.ui.enabled": "false", "spark.eventLog.enabled": "true", "spark.eventLog.dir": str(events)}
    job = world.start("run", "--domain", "leads", HEADWATER_SPARK__CONF=json.dumps(spark))
    world.send(slice_of(0))
    eventually(lambda: has(world.postgres, 10) and has(world.documents, 10), "both have slice 0", 180)

    before_postgres.close()
    world.send(slice_of(1))
    eventually(lambda: has(world.documents, 20), "Elasticsearch goes on alone", 90)
    assert len(world.postgres()) == 10
    before_postgres.open()
    eventually(lambda: has(world.postgres, 20), "PostgreSQL catches up", 120)

    before_elasticsearch.close()
    world.send(slice_of(2))
    eventually(lambda: has(world.postgres, 30), "PostgreSQL goes on alone", 90)
    assert len(world.documents()) == 20
    before_elasticsearch.open()
    eventually(lambda: has(world.documents, 30), "Elasticsearch catches up", 120)

    metrics = metrics_of(world)
    assert 'consumer_events_processed_total{outcome="silver",query="refine.leads"' in metrics
    job.terminate()
    ended = job.wait()
    assert ended.code == 0, ended.why
    check(world)
    prove(world)
    (world.folder / "metrics.txt").write_text(metrics)
    assert named(world) == {}
    letters = {row["source_offset"]: row for row in world.table("ops.dead_letters")}
    assert all(b'"consent": false' not in row["payload"] for row in letters.values())


def has(store: Callable[[], Sized], count: int) -> bool:
    """Whether a store holds so many; an index that is not there yet holds none."""
    try:
        return len(store()) == count
    except Exception:  # the client's own: no such index yet
        return False


def metrics_of(world: World) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{world.metrics_port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def named(world: World) -> dict[str, list[str]]:
    """Files that name someone: logs of jobs and servers, Spark's events, metrics, checkpoints and state, the
    tables' logs."""
    places = [world.folder / name for name in ("logs", "events", "metrics.txt")]
    places += [world.lake / "_checkpoints", *world.lake.glob("*/*/_delta_log")]
    places += [world.broker.folder / "broker.log", log_path("postgres").parent]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    found = {str(file): words_in(file) for file in files if file.is_file()}
    assert len(found) > 20
    assert any(file.is_file() for file in (world.folder / "events").rglob("*"))
    return {file: words for file, words in found.items() if words}


def words_in(file: Path) -> list[str]:
    content = file.read_bytes()
    return [word for word in WORDS if word.encode() in content]
