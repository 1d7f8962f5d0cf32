"""One `jobs run` that goes on while a test takes away, and gives back, what it depends on."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from headwater.settings import load_settings
from local import places, process
from local.postgres import SERVER, dsn
from local.server import Server
from tests.integration.api_server import free_port
from tests.integration.broker import eventually
from tests.integration.clock import Clock
from tests.integration.elasticsearch_proxy import Proxy
from tests.integration.forwarder import Forwarder
from tests.integration.jobs_harness import Job, Place, Row, Sent, World, check
from tests.integration.lake import committed

ARRIVES_WITHIN_S = 180.0
# So that a backlog of thousands is several batches.
BATCH = 500


@dataclass
class Outages:
    """The job, its world, and every hold on what it depends on."""

    world: World
    postgres: Server
    before_postgres: Forwarder
    elasticsearch: Proxy
    before_elasticsearch: Forwarder
    clock: Clock
    prove: Callable[[World], dict[str, int]]
    job: Job | None = None

    def start(self) -> None:
        """The job, with Spark's events kept: they too may name nobody."""
        events = self.world.folder / "events"
        events.mkdir()
        conf = {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": str(events),
            "spark.eventLog.compress": "false",  # so that words can be found in it
        }
        spark = json.dumps({"spark.ui.enabled": "false", **conf})
        most = {"HEADWATER_STREAMS__MAX_OFFSETS_PER_TRIGGER": str(BATCH)}
        self.job = self.world.start("run", "--domain", "leads", HEADWATER_SPARK__CONF=spark, **most)

    def end(self) -> None:
        """Whatever state it is in."""
        if self.job is not None and self.job.process.poll() is None:
            self.job.kill()

    def mend(self) -> None:
        """Give back all that a test may have taken away."""
        self.elasticsearch.fault = self.elasticsearch.refuse = None
        for port in (self.before_postgres, self.before_elasticsearch):
            port.open()
        self.clock.set(0)

    def send(self, records: list[Sent]) -> list[Place]:
        return self.world.send(records)

    def settles(self) -> None:
        """All that was sent arrives, without a restart of the job; nothing is lost, doubled or different."""
        eventually(self._accounted, "refine has accounted for everything", ARRIVES_WITHIN_S)
        self.all_in(self.in_postgres)
        self.all_in(self.in_index, but=sum(sent.unindexed for sent in self.world.sent.values()))
        letters = sum(sent.outcome == "dead" or sent.unindexed for sent in self.world.sent.values())
        eventually(lambda: len(self.letters()) == letters, "all dead letters are there", ARRIVES_WITHIN_S)
        assert self.job is not None and self.job.process.poll() is None
        assert [line for line in self.events() if line["event"] == "query_stopped"] == []
        check(self.world)
        self.prove(self.world)

    def all_in(self, count: Callable[[], int], but: int = 0) -> None:
        """Wait until a destination has every lead but so many."""
        wanted = sum(sent.outcome == "silver" for sent in self.world.sent.values()) - but
        eventually(lambda: count() == wanted, f"{wanted} leads are {count.__name__}", ARRIVES_WITHIN_S)

    def in_postgres(self) -> int:
        return int(self.superuser("SELECT count(*) FROM leads")[0][0])

    def in_index(self) -> int:
        """Documents; 0 while there is no index."""
        alias = f"{self.world.prefix}leads"
        with self.world.elasticsearch() as client:
            if not client.indices.exists_alias(name=alias):
                return 0
            client.indices.refresh(index=alias)
            return int(client.count(index=alias)["count"])

    def letters(self) -> list[Row]:
        return self._rows("ops.dead_letters")

    def ingested(self) -> int:
        return len(self._rows("bronze.leads", ["offset"]))

    def ingests(self, records: list[Sent]) -> int:
        """Send them, and wait until the first of them are in bronze; how many were there before."""
        before = self.ingested()
        self.send(records)
        eventually(lambda: self.ingested() > before, "ingest has taken some", ARRIVES_WITHIN_S)
        return before

    def events(self) -> list[Row]:
        """What the job has logged so far."""
        assert self.job is not None
        lines = self.job.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def restarts(self, query: str = "", why: str = "") -> int:
        """How often queries were started again: those whose name, and for reasons that, have this in them."""
        found = [line for line in self.events() if line["event"] == "query_restarts"]
        return sum(query in line["query"] and why in line["why"] for line in found)

    def superuser(self, statement: str) -> list[tuple[Any, ...]]:
        """A statement on the job's database, past the port that may be closed."""
        address = dsn("postgres", "postgres-superuser", self.world.name)
        with psycopg.connect(address, autocommit=True) as server:
            cursor = server.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _accounted(self) -> bool:
        if not committed(self.world.lake / "ops/ledger"):
            return False
        counts = self.world.ledger("refine.leads").values()
        return sum(count["in_rows"] for count in counts) == len(self.world.sent)

    def _rows(self, table: str, columns: list[str] | None = None) -> list[Row]:
        there = committed(self.world.lake / table.replace(".", "/"))
        return self.world.table(table, columns) if there else []


@contextmanager
def own_postgres() -> Iterator[Server]:
    """The local stack's PostgreSQL once more: its binaries, with data, log and port of its own."""
    stack = places.state()
    own = places.make_folder(stack / f"test-{uuid.uuid4().hex[:8]}")
    (own / "dist").symlink_to(stack / "dist")
    with pytest.MonkeyPatch.context() as patch:
        for module in (places, process):
            patch.setattr(module, "state", lambda: own)
        patch.setenv("HEADWATER_PORT_POSTGRES", str(free_port()))
        load_settings.cache_clear()
        try:
            SERVER.start()
            yield SERVER
        finally:
            SERVER.stop()
            shutil.rmtree(own)
    load_settings.cache_clear()


@contextmanager
def forwarded(world: World, elasticsearch: Proxy) -> Iterator[tuple[Forwarder, Forwarder]]:
    """Ports before PostgreSQL and Elasticsearch, which the world's jobs go through."""
    address = urlsplit(world.dsn)
    with (
        closing(Forwarder(f"{address.hostname}:{address.port}")) as postgres,
        closing(Forwarder(elasticsearch.url.removeprefix("http://"))) as index,
    ):
        world.env["HEADWATER_POSTGRES__DSN"] = world.dsn.replace(f":{address.port}/", f":{postgres.port}/")
        world.env["HEADWATER_ELASTICSEARCH__URL"] = f"http://127.0.0.1:{index.port}"
        yield postgres, index
