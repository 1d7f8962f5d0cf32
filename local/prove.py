"""`python -m local prove`: everything is killed while events of every stream come in, and none may be lost.

A stack of its own, the API, and one driver for all domains; a plan of faults from a seed. Then all is drained
by what is running, dead letters are mended and sent again, the jobs audit and reconcile every domain, and
each event that was acknowledged is looked for in the tables.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from headwater.clock import utc_now
from headwater.errors import HeadwaterError
from headwater.settings import Settings, load_settings
from local import prove_found as found
from local.demo_migrate import migrate
from local.demo_processes import Child, ended_by_sigterm
from local.demo_watch import documents_in_elasticsearch, live, rows, rows_in_postgres
from local.environment import METRICS
from local.places import say
from local.prove_check import check
from local.prove_faults import Chaos, Supervised
from local.prove_plan import API, DRIVER, plan
from local.prove_replay import replay
from local.prove_report import Proven, report, write
from local.prove_send import Traffic
from local.prove_verdict import Verdict
from local.prove_world import own_world
from local.server import reachable
from local.traffic import Kind

RATE = 40.0
PATIENCE_S = 240.0
_TICK_S = 0.25
_TELL_EVERY_S = 10.0
_GATE_FAILED = 3
_ROWS = {
    "text.agent.turn.completed": "SELECT count(*) FROM agent_turns",
    "frontend.user.interaction": "SELECT count(*) FROM frontend_analytics",
}


@dataclass(frozen=True)
class Wanted:
    """What was asked for."""

    minutes: float
    seed: int
    rate: float
    out: Path | None


class Proof:
    """One run, in a world of its own."""

    def __init__(self, wanted: Wanted, folder: Path) -> None:
        self.wanted = wanted
        self.folder = folder
        self.settings: Settings = load_settings("local")
        self.since = utc_now()
        self.began = time.monotonic()
        self.run = f"prove-{wanted.seed}-"
        domains = [word for domain in found.DOMAINS for word in ("--domain", domain)]
        driver = Supervised(DRIVER, "jobs", "run", *domains, excused=lambda: self.chaos.shaken)
        self.ours = {DRIVER: driver, API: Supervised(API, "api")}
        self.chaos = Chaos(plan(wanted.seed, wanted.minutes), self.ours, self.tell)
        self.prove = ("jobs", "run", *domains, "--once", "--prove")
        self.traffic: Traffic

    def tell(self, line: str) -> None:
        """One line of progress with the seconds so far."""
        say(f"[{time.monotonic() - self.began:6.1f} s] {line}")

    def go(self) -> int:
        """The exit code: 0 only if nothing was lost, doubled or wrong."""
        for fault in self.chaos.faults:
            say(f"  {fault}")
        migrate(self.settings, self.tell, self._ended)
        with ExitStack() as at_the_end:
            for one in self.ours.values():
                one.start()
                at_the_end.callback(one.end)
            self._start()
            self._storm(at_the_end)
            self._drain()
            self.tell("the fix, and the replay: dead letters are mended and sent again")
            replay(self.folder, self._ended)
            self._drain()
            self.tell("stopping driver and API")
            for one in self.ours.values():
                one.stop()
            verdict = self._check()
        restarts = {name: one.restarts for name, one in self.ours.items()}
        proven = Proven(
            self.wanted.seed, self.chaos.done, restarts, self.traffic.retries, verdict, self._seconds
        )
        out = self.wanted.out or self.folder / "report.json"
        write(proven, out)
        print(report(proven, self.folder / "logs", out), flush=True)
        return 0 if verdict.holds else 1

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def _start(self) -> None:
        self.tell("starting the driver and the API")
        self.traffic = Traffic(
            self.settings, self.run, self.wanted.seed, self.wanted.rate, self.wanted.minutes * 60
        )
        self._until(lambda: live(self.settings), lambda: "  waiting for the API")
        # The driver has its session, and goes on to start its queries.
        self._until(lambda: reachable(METRICS.number), lambda: "  waiting for Spark")

    def _storm(self, at_the_end: ExitStack) -> None:
        """Traffic and faults at once, for as long as was asked for."""
        self.tell(f"sending {self.wanted.rate:.0f} events/s of every stream for {self.wanted.minutes:g} min")
        stopping, fallen = threading.Event(), []

        def run() -> None:
            try:
                self.chaos.run(stopping)
            except Exception as fault:  # the edge of a thread
                fallen.append(fault)

        storm = threading.Thread(target=run, name="chaos")
        at_the_end.callback(storm.join)
        at_the_end.callback(stopping.set)
        for thread in (storm, *self.traffic.threads):
            thread.start()

        def over() -> bool:
            if fallen:
                raise HeadwaterError(f"a victim did not come back: {fallen[0]}") from fallen[0]
            return not any(thread.is_alive() for thread in (storm, *self.traffic.threads))

        self._until(over, self._progress, limit_s=self.wanted.minutes * 60 + PATIENCE_S)
        if self.traffic.faults:
            raise HeadwaterError("; ".join(self.traffic.faults))

    def _drain(self) -> None:
        """Until those that run have taken all to its end, without help."""
        ends = found.ends(self.settings)

        def taken() -> bool:
            return all(done == ends for done in found.taken(self.settings).values())

        def left() -> str:
            done = found.taken(self.settings)["refine"]
            return f"  refined {sum(done.values()):,} of {sum(ends.values()):,}"

        self._until(taken, left, every_s=1.0)
        tenants, counts = self._valid()
        self._until(
            lambda: (
                rows_in_postgres(self.settings, self.run, self.since) >= len(tenants)
                and all(rows(self.settings, query)[0][0] >= counts[topic] for topic, query in _ROWS.items())
            ),
            lambda: "  waiting for the last rows in PostgreSQL",
            every_s=1.0,
        )
        self._until(
            lambda: documents_in_elasticsearch(self.settings, tenants) >= len(tenants),
            lambda: "  waiting for the last documents in Elasticsearch",
            every_s=1.0,
        )

    def _valid(self) -> tuple[dict[str, str], dict[str, int]]:
        """Key → tenant of the leads that must arrive, and how many events of other topics must."""
        valid = {
            (one.event.topic, one.event.key): one.event.tenant
            for one in self.traffic.sent
            if one.event.kind in (Kind.VALID, Kind.DUPLICATE)
        }
        leads = {key: tenant for (topic, key), tenant in valid.items() if topic == "lead.ingest"}
        return leads, {topic: sum(of == topic for of, _ in valid) for topic in _ROWS}

    def _check(self) -> Verdict:
        self.tell("checking: the jobs audit and reconcile every domain")
        job = Child("check", *self.prove, of="prove")
        try:
            self._ended(job)
        finally:
            job.kill()
        if job.exit_code not in (0, _GATE_FAILED):
            raise HeadwaterError(f"the check ended with exit code {job.exit_code}; {job.tail()}")
        self.tell("looking for every event in the tables")
        drivers = [child.events() for child in self.ours[DRIVER].children]
        return check(self.settings, self.traffic, drivers, job.events())

    def _progress(self) -> str:
        tallies = self.traffic.tallies.values()
        acknowledged = sum(len(tally.events) for tally in tallies)
        return f"  sent {sum(tally.total for tally in tallies):,}, acknowledged {acknowledged:,}"

    def _ended(self, job: Child) -> None:
        self._until(lambda: job.exit_code is not None, lambda: f"  {job.name} runs")

    def _until(
        self,
        done: Callable[[], bool],
        line: Callable[[], str],
        limit_s: float = PATIENCE_S,
        every_s: float = _TICK_S,
    ) -> None:
        """Wait, and look after driver and API. HeadwaterError when one ends by itself, or it takes longer."""
        began = told = time.monotonic()
        while not done():
            now = time.monotonic()
            for one in self.ours.values():
                one.tend()
            if now - began > limit_s:
                raise HeadwaterError(f"not done within {limit_s:.0f} s: {line().strip()}")
            if now - told >= _TELL_EVERY_S:
                told = now
                self.tell(line())
            time.sleep(every_s)


def prove(wanted: Wanted) -> int:
    """Run it; the exit code. Its servers are stopped, its logs and its lake stay until the next one."""
    say(f"the proof, seed {wanted.seed}: again with SEED={wanted.seed}")
    with ended_by_sigterm(), own_world() as folder:
        try:
            return Proof(wanted, folder).go()
        except HeadwaterError:
            say(f"logs of servers, drivers and API: {folder / 'logs'}")
            raise
