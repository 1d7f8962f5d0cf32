"""`python -m tests.perf.all_at_once`: leads and interactions in one driver, at a steady rate over all topics.

A Kafka, lake, index, database, and database of Redis of its own; `jobs run` as it is by default, warmed up by
the same traffic. Then: does a query fall behind, how long from Kafka's confirmation until PostgreSQL has it,
how large the JVM and how many the queries are. PostgreSQL is asked every half second: an arrival is up to
that much too late. Of a KPI the event has arrived when the row counts as many events as were sent up to it.
Prints the figures, and writes all_at_once.json and all_at_once.png. Exit code 1: something has not arrived.
"""

import json
import os
import tempfile
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import psutil
import psycopg
import typer
from confluent_kafka import Producer

from local.places import LOCAL, say
from local.postgres import dsn
from local.redis import admin
from local.traffic import Event, Kind, Mix, Way, traffic
from local.traffic_interactions import interactions
from tests.integration.broker import Broker
from tests.integration.jobs_harness import Job, World

DOMAINS = ("leads", "interactions")
LEADS_SHARE = 0.2
SEED = 6
REDIS_DATABASE = 13  # that nothing else uses
# What tests set and nobody else: see World.
TEST_SETTINGS = ("HEADWATER_SPARK__DRIVER_MEMORY", "HEADWATER_SPARK__CONF", "JAVA_TOOL_OPTIONS")
_EVERY_S = 0.5
_PATIENCE_S = 600.0
_HOUR_MS = 3_600_000
# Of each table: its key, and how many events a row counts.
QUESTIONS = {
    "leads": ("tenant_id || '|' || idempotency_key", "1"),
    "agent_turns": ("tenant_id || '|' || session_id || '|' || turn_id", "1"),
    "frontend_analytics": ("tenant_id || '|' || event_id", "1"),
    "session_kpis": ("tenant_id || '|' || session_id", "turns"),
    "billing_usage": (
        "account_id || '|' || metric || '|' || extract(epoch FROM window_start)::bigint * 1000",
        "events",
    ),
}
# A row that comes to be seen after a look was written by a transaction that was not over at that look.
_NOT_OVER = "SELECT pg_snapshot_xmin(pg_current_snapshot())::xid::text"
_SINCE = "SELECT {}, {} FROM {} WHERE age(xmin) <= age(%s::xid)"
Moments = dict[str, dict[str, list[float]]]


def main(
    rate: Annotated[float, typer.Option(help="Events a second, over all topics.")] = 300,
    seconds: Annotated[float, typer.Option(help="How long is measured.")] = 600,
    warm_up: Annotated[float, typer.Option(help="Seconds of the same traffic before.")] = 180,
    out: Annotated[Path, typer.Option(help="Folder of the JSON and the picture.")] = LOCAL / "bench",
) -> None:
    """Run, print, draw."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headwater-all-at-once-") as name:
        broker = Broker(Path(name))
        broker.format()
        broker.start()
        try:
            found = _found(World(Path(name) / "world", broker), rate, warm_up, seconds)
        finally:
            broker.stop()
    (out / "all_at_once.json").write_text(json.dumps(found) + "\n", encoding="utf-8")
    for line in told(found):
        print(line)
    draw(found, out / "all_at_once.png")
    say(f"{out / 'all_at_once.json'}, {out / 'all_at_once.png'}")
    raise typer.Exit(1 if any(found["missing"].values()) else 0)


def _found(world: World, rate: float, warm_up: float, seconds: float) -> dict[str, Any]:
    url = f"{world.settings.redis.url.rsplit('/', 1)[0]}/{REDIS_DATABASE}"
    world.env["HEADWATER_REDIS__URL"] = url
    world.open()
    try:
        return Run(world, rate).go(warm_up, seconds)
    finally:
        with admin(REDIS_DATABASE) as client:  # the writer may not
            client.flushdb()
        world.close()


@dataclass
class Run:
    """One run. Moments are seconds since it began."""

    world: World
    rate: float
    began: float = field(default_factory=time.time)
    sent: Moments = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    seen: Moments = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    memory: list[tuple[float, float]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def go(self, warm_up: float, seconds: float) -> dict[str, Any]:
        """Start the driver, send, wait for the last row, stop it."""
        for name in TEST_SETTINGS:
            del self.world.env[name]
        # And what is asked for here.
        self.world.env |= {name: text for name, text in os.environ.items() if name.startswith("HEADWATER_")}
        driver = self.world.start("run", *[word for domain in DOMAINS for word in ("--domain", domain)])
        watch = threading.Thread(target=self._watch, args=(driver,), daemon=True)
        watch.start()
        try:
            say(f"warming up: {warm_up:.0f} s at {self.rate:.0f}/s")
            self._send("w", warm_up)
            start = self._now()
            say(f"measuring: {seconds:.0f} s")
            self._send("m", seconds)
            end = self._now()
            self._wait(driver)
            driver.terminate()
            ended = driver.wait()
        finally:
            self.done.set()
            watch.join()
            driver.kill()
        assert ended.code == 0, ended.why
        return self._found(driver.log, start, end)

    def _now(self) -> float:
        return time.time() - self.began

    # Sending

    def _send(self, part: str, seconds: float) -> None:
        """Until all are confirmed."""
        producer = Producer(
            {"bootstrap.servers": self.world.broker.bootstrap, "linger.ms": 10, "message.max.bytes": 4 << 20}
        )
        began = time.time()
        for number, event in enumerate(self._events(part, round(self.rate * seconds))):
            time.sleep(max(0.0, began + number / self.rate - time.time()))
            counted = _counted(event) if event.kind is Kind.VALID else []

            def confirmed(fault: object, _message: object, counted: list[tuple[str, str]] = counted) -> None:
                assert fault is None, fault
                moment = self._now()
                for table, key in counted:
                    self.sent[table][key].append(moment)

            key = f"{event.tenant}|{event.key}".encode()
            producer.produce(event.topic, event.body, key, on_delivery=confirmed)
            producer.poll(0)
        assert producer.flush(60) == 0

    def _events(self, part: str, total: int) -> Iterator[Event]:
        leads = traffic(Way.KAFKA, round(total * LEADS_SHARE), run=f"{part}l", seed=SEED)
        others = interactions(
            total - round(total * LEADS_SHARE), run=f"{part}i", seed=SEED, mix=Mix(no_consent=0)
        )
        every = round(1 / LEADS_SHARE)
        for number in range(total):
            event = next(leads if number % every == 0 else others, None)
            if event is not None:
                yield event

    # Watching

    def _watch(self, driver: Job) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            since = _not_over(connection)
            while not self.done.wait(_EVERY_S):
                now = _not_over(connection)
                for table, (key, count) in QUESTIONS.items():
                    self._look(connection, table, _SINCE.format(key, count, table), since)
                since = now
                self.memory += [(self._now(), size) for size in _resident_gib(driver)]

    def _look(self, connection: psycopg.Connection, table: str, question: str, since: str) -> None:
        rows = connection.execute(question.encode(), (since,)).fetchall()
        moment = self._now()
        for key, count in rows:
            moments = self.seen[table][key]
            moments += [moment] * (count - len(moments))

    @property
    def _dsn(self) -> str:
        return dsn("headwater_owner", "postgres-owner", self.world.name)

    def _missing(self) -> dict[str, int]:
        return {
            table: sum(max(0, len(sent) - len(self.seen[table][key])) for key, sent in keys.items())
            for table, keys in self.sent.items()
        }

    def _wait(self, driver: Job) -> None:
        end = time.monotonic() + _PATIENCE_S
        while any(self._missing().values()) and time.monotonic() < end and driver.process.poll() is None:
            time.sleep(1)

    # Afterwards

    def _found(self, log: Path, start: float, end: float) -> dict[str, Any]:
        latency = {
            table: [
                came - went
                for key, sends in keys.items()
                for went, came in zip(sends, self.seen[table][key], strict=False)
                if start <= went <= end
            ]
            for table, keys in self.sent.items()
        }
        batches = list(_batches(log, self.began))
        return {
            "rate": self.rate,
            "start": start,
            "end": end,
            "missing": self._missing(),
            "latency": {table: _cuts(found) for table, found in latency.items()},
            "all": _cuts([one for found in latency.values() for one in found]),
            "arrivals": {
                table: sorted(moment for moments in keys.values() for moment in moments)
                for table, keys in self.seen.items()
            },
            "sent": {
                table: sorted(moment for moments in keys.values() for moment in moments)
                for table, keys in self.sent.items()
            },
            "batches": batches,
            "queries": sorted({batch["query"] for batch in batches}),
            "memory": self.memory,
        }


def _counted(event: Event) -> list[tuple[str, str]]:
    """The table's rows that count a valid event, by key."""
    if event.topic == "lead.ingest":
        return [("leads", f"{event.tenant}|{event.key}")]
    document = json.loads(event.body)
    if event.topic == "text.agent.turn.completed":
        session = f"{event.tenant}|{document['session_id']}"
        return [("agent_turns", f"{session}|{document['turn_id']}"), ("session_kpis", session)]
    if event.topic == "frontend.user.interaction":
        return [("frontend_analytics", f"{event.tenant}|{document['event_id']}")]
    if event.topic == "billing.usage.metered":
        hour = document["ts_ms"] // _HOUR_MS * _HOUR_MS
        return [("billing_usage", f"{event.tenant}|{document['metric']}|{hour}")]
    return []


def _not_over(connection: psycopg.Connection) -> str:
    """The oldest transaction that may still write."""
    found = connection.execute(_NOT_OVER).fetchone()
    assert found is not None
    return str(found[0])


def _resident_gib(driver: Job) -> list[float]:
    """Of the driver's JVM; nothing before it has one, and when it ends."""
    try:
        found = [p for p in psutil.Process(driver.process.pid).children(recursive=True) if p.name() == "java"]
        return [process.memory_info().rss / 2**30 for process in found[:1]]
    except psutil.Error:
        return []


def _batches(log: Path, began: float) -> Iterator[dict[str, Any]]:
    """Every query's batches: when they ended, seconds, rows."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("{"):
            continue
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if told.get("event") == "batch":
            moment = datetime.fromisoformat(told["timestamp"]).timestamp() - began
            seconds = told["seconds"].get("triggerExecution", 0)
            yield {"query": told["query"], "at": moment, "seconds": seconds, "rows": told["rows"]}


def _cuts(found: list[float]) -> dict[str, float]:
    cuts = quantiles(found, n=100) if len(found) > 1 else [0.0] * 99
    return {"events": len(found), "p50": cuts[49], "p95": cuts[94], "max": max(found, default=0.0)}


def told(found: dict[str, Any]) -> Iterator[str]:
    """Lines for a person."""
    yield f"{len(found['queries'])} queries: {', '.join(found['queries'])}"
    for table, cuts in {**found["latency"], "all": found["all"]}.items():
        yield (
            f"{table}: {cuts['events']:,} events, p50 {cuts['p50']:.1f} s, p95 {cuts['p95']:.1f} s,"
            f" max {cuts['max']:.1f} s, missing {found['missing'].get(table, 0)}"
        )
    for query in found["queries"]:
        mine = [b for b in found["batches"] if b["query"] == query and b["at"] >= found["start"]]
        if len(mine) > 1:
            cuts = _cuts([b["seconds"] for b in mine])
            rows = sum(b["rows"] for b in mine)
            took = f"p50 {cuts['p50']:.1f} s, p95 {cuts['p95']:.1f} s"
            yield f"{query}: {len(mine)} batches, {rows:,} rows, {took}"
    moments = [found["start"] + (found["end"] - found["start"]) * n / 3 for n in (1, 2, 3)]
    thirds = [sum(_behind(found, table, moment) for table in found["sent"]) for moment in moments]
    yield f"events sent and not yet in PostgreSQL after each third: {', '.join(map(str, thirds))}"
    yield f"driver's JVM, resident: at most {max(gib for _, gib in found['memory']):.2f} GiB"


def _behind(found: dict[str, Any], table: str, moment: float) -> int:
    """Events of the table that were sent by then, and had not arrived."""
    sent, came = found["sent"][table], found["arrivals"].get(table, [])
    return bisect_right(sent, moment) - bisect_right(came, moment)


def draw(found: dict[str, Any], path: Path) -> None:
    """Lag of each table above, seconds of each query's batches below."""
    import matplotlib as mpl  # of the extra `bench`: not there after `make setup`

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (lag, times) = pyplot.subplots(2, 1, figsize=(11, 9), sharex=True, layout="constrained")
    last = max(batch["at"] for batch in found["batches"])
    moments = range(0, int(last), 2)
    for table in found["sent"]:
        lag.plot(moments, [_behind(found, table, second) for second in moments], label=table)
    lag.set_ylabel("events sent and not yet in PostgreSQL")
    for query in found["queries"]:
        mine = [batch for batch in found["batches"] if batch["query"] == query]
        times.plot([b["at"] for b in mine], [b["seconds"] for b in mine], ".-", lw=0.6, ms=3, label=query)
    times.set_ylabel("seconds a batch took")
    times.set_xlabel(f"seconds; {found['rate']:.0f} events/s, measured between the lines")
    for axes in (lag, times):
        axes.axvline(found["start"], color="grey", lw=0.8)
        axes.axvline(found["end"], color="grey", lw=0.8)
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small", ncols=3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    typer.run(main)
