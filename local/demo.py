"""`python -m local demo`: the whole way once, and the proof that nothing was lost on it.

Stack, migrations, API, jobs and a receiver for the connectors; a backlog in Kafka while Spark starts; then
HTTP and Kafka traffic together; then all of it must arrive, and a file that is uploaded, too. All processes
must end with 0, and the tables must agree with what was sent, which the jobs prove themselves as they end.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from headwater.clock import utc_now
from headwater.errors import HeadwaterError, SetupError
from headwater.settings import Settings, load_settings
from local import demo_connectors, demo_upload, stack
from local.credentials import DEMO_KEYS, read_secret
from local.demo_check import check, prefix, proof
from local.demo_connectors import Shares, outcomes, unsettled
from local.demo_domains import Crm, Domain, Interactions
from local.demo_migrate import migrate
from local.demo_processes import Child, ended_by_sigterm
from local.demo_report import Measured, report, write
from local.demo_send import Tally, send_http, send_kafka
from local.demo_upload import Upload
from local.demo_watch import (
    Delivery,
    Watch,
    api_url,
    deliveries,
    documents_in_elasticsearch,
    end_offset,
    live,
    rows_in_postgres,
)
from local.environment import API, RECEIVER
from local.places import say
from local.ports import taken
from local.traffic import Event, Kind, Way, traffic

REFUSALS, LETTERS = "lead.refused", "lead.dlq"
EVENTS_OUT = ("lead.normalized", "lead.captured")
BACKLOG = 1000
INTERACTIONS = 2000
CRM = 300
KAFKA_RATE = 60.0
SEED = 20
PATIENCE_S = 240.0
_TICK_S = 0.2
_TELL_EVERY_S = 4.0
_GATE_FAILED = 3


class Demo:
    """One run. Its keys begin with `run`, so that a second run meets nothing of the first."""

    def __init__(
        self,
        seconds: float,
        rate: float,
        warm_up: float,
        patience: float,
        out: Path | None,
        interactions: int,
        crm: int,
    ) -> None:
        self.seconds = seconds
        self.warm_up = warm_up
        self.rate = rate
        self.patience = patience
        self.out = out
        self.began = time.monotonic()
        self.since = utc_now()
        self.run = f"demo-{secrets.token_hex(4)}-"
        self.tallies = {way: Tally() for way in Way}
        self.shares = Shares()
        self.others: tuple[Domain, ...] = (
            Interactions(interactions, self.run, SEED),
            Crm(crm, self.run, SEED),
        )
        self.settings: Settings
        self.live = 0
        self.ends: dict[str, int] = {}
        self.measured_from = 0.0
        self.watch: Watch
        self.children: list[Child] = []

    def tell(self, line: str) -> None:
        """One line of progress with the seconds so far."""
        say(f"[{time.monotonic() - self.began:6.1f} s] {line}")

    def go(self) -> int:
        """The exit code: 0 only if everything agrees, 3 if it does not."""
        self.tell("starting the local stack")
        stack.up()
        self.settings = load_settings("local")
        for server, port in (("the API", API), ("the receiver", RECEIVER)):
            if held := taken(server, port):
                raise SetupError(str(held))
        migrate(self.settings, self.tell, self._ended)
        self.ends = self._ends()
        with ExitStack() as at_the_end:
            self._start(at_the_end)
            self._catch_up()
            if self.warm_up:
                self._send("warming up with", "w", self.warm_up)
            self.measured_from = time.time()
            self._send("sending", "m", self.seconds)
            self._drain()
            upload = self._upload(at_the_end)
            jobs = self._stop()
            rows = self._rows()
            produced = self._produced()
            self.tell("checking: audit of the ledger, and every sink against silver by key and hash")
            findings = check(jobs, self.run, self.tallies, self.tell)
            others = {other.name: (other.tally, other.check(findings)) for other in self.others}
            seen = demo_connectors.seen()
        connectors = outcomes(self.shares, self._tenants(), self._deliveries(), seen)
        findings.faults += [fault for outcome in connectors.values() for fault in outcome.faults]
        findings.faults += [
            f"{system} has {count} rows of this run, expected {len(self._tenants())}"
            for system, count in rows.items()
            if count != len(self._tenants())
        ]
        findings.faults += upload.faults
        seconds = time.monotonic() - self.began
        measured = Measured(
            self.run, self.tallies, rows, self.watch.seen, produced, connectors, upload, self.live,
            self.measured_from, seconds, others,
        )  # fmt: skip
        if self.out:
            write(measured, findings, self.out)
        print(report(measured, findings, self.settings), flush=True)
        return _GATE_FAILED if findings.faults else 0

    def _ended(self, job: Child) -> None:
        self._until(lambda: job.exit_code is not None, lambda: f"  {job.name} runs", job)

    def _start(self, at_the_end: ExitStack) -> None:
        ports = f"the API on port {self.settings.api.port}, a receiver for connectors on {RECEIVER.number}"
        self.tell(f"starting the jobs, {ports}")
        besides = [word for other in self.others for word in other.options]
        run = ("jobs", "run", "--domain", "leads", *proof(self.run), *besides)
        for name, words, variables in (
            ("jobs", run, demo_connectors.variables()),
            ("api", ("api",), {}),
            ("receiver", ("local", "receiver"), {}),
        ):
            child = Child(name, *words, variables=variables)
            at_the_end.callback(child.kill)
            self.children.append(child)
        self._until(demo_connectors.answers, lambda: "  waiting for the receiver")
        demo_connectors.plan_faults()
        self.watch = Watch(self.settings, self.run, self.since)
        self.watch.start()
        at_the_end.callback(self.watch.stop)

    def _catch_up(self) -> None:
        """Kafka fills while Spark starts. Once that is in both sinks, every query is known to run."""
        more = ", ".join(f"{other.count:,} events of {other.name}" for other in self.others if other.count)
        self.tell(f"sending to Kafka while Spark starts: {BACKLOG:,} leads{more and ', '}{more}")
        for other in self.others:
            other.send(self.settings)
        send_kafka(self.settings, self._events(Way.KAFKA, BACKLOG, "b", SEED), 0, self._kafka)
        self._until(lambda: live(self.settings), lambda: "  waiting for the API")
        self._arrived("Spark starts and takes the backlog")
        for other in self.others:
            self._until(
                partial(other.has_arrived, self.settings, self.children[0]),
                partial(self._arrivals_of, other),
                every_s=1.0,
            )

    def _send(self, doing: str, part: str, seconds: float) -> None:
        """HTTP and Kafka traffic at once, for so long."""
        count, records = round(self.rate * seconds), round(KAFKA_RATE * seconds)
        self.live += count + records
        by_http, by_kafka = (
            f"{count:,} by HTTP at {self.rate:.0f}/s",
            f"{records:,} by Kafka at {KAFKA_RATE:.0f}/s",
        )
        self.tell(f"{doing} events: {by_http}, {by_kafka}")
        keys = {tenant: read_secret(name) for name, (_, tenant) in DEMO_KEYS.items()}
        posts = self._events(Way.HTTP, count, part, SEED)
        produced = self._events(Way.KAFKA, records, part, SEED + 1)
        with ThreadPoolExecutor(2) as pool:
            senders: list[Future[None]] = [
                pool.submit(
                    send_http, api_url(self.settings), keys, posts, self.rate, self.tallies[Way.HTTP]
                ),
                pool.submit(send_kafka, self.settings, produced, KAFKA_RATE, self._kafka),
            ]
            self._until(lambda: all(s.done() for s in senders), self._counters, limit_s=4 * seconds + 60)
            for sender in senders:
                sender.result()

    def _events(self, way: Way, count: int, part: str, seed: int) -> Iterator[Event]:
        """Sample traffic of this run; `part` tells its keys from those of other parts."""
        return self.shares.note(traffic(way, count, run=f"{prefix(self.run, way)}{part}", seed=seed))

    def _drain(self) -> None:
        """One more record, after all others: when it has arrived, refine has taken all before it."""
        send_kafka(self.settings, self._events(Way.KAFKA, 1, "z", SEED), 0, self._kafka)
        self._arrived("waiting for the last rows")
        wanted = len(self._tenants())

        def produced() -> bool:
            found = self._produced()
            dead = found[REFUSALS] + self._kafka.sent[Kind.BROKEN]
            return found[LETTERS] >= dead and all(found[topic] >= wanted for topic in EVENTS_OUT)

        self._until(produced, lambda: f"  outgoing topics: {self._produced()}", every_s=1.0)
        posted = self.shares.wanted(self._tenants())
        self._until(
            lambda: not unsettled(posted, self._deliveries()),
            lambda: f"  connectors: {unsettled(posted, self._deliveries()):,} deliveries are open",
            every_s=1.0,
        )
        topics = " and ".join(EVENTS_OUT)
        self.tell(f"all {wanted:,} leads are in both sinks and on {topics}, dead letters on {LETTERS}")

    def _arrived(self, what: str) -> None:
        wanted = self._tenants()

        def indexed() -> bool:
            return documents_in_elasticsearch(self.settings, wanted) >= len(wanted)

        self._until(lambda: self.watch.has(wanted), lambda: f"  {what}: {self._arrivals(wanted)}")
        self._until(indexed, lambda: f"  {what} in Elasticsearch", every_s=1.0)

    def _upload(self, at_the_end: ExitStack) -> Upload:
        """A file, sent when all else is done: what the events took is not measured beside it."""
        self.tell(f"uploading a file of {demo_upload.ROWS:,} rows, with a worker for imports")
        worker = Child("imports", "jobs", "import-files")
        at_the_end.callback(worker.kill)
        self.children.append(worker)
        key = read_secret(next(iter(DEMO_KEYS)))
        upload = demo_upload.send(self.settings, key, self.run)

        def ended() -> bool:
            nonlocal upload
            upload = demo_upload.look(self.settings, key, upload)
            return upload.ended

        self._until(ended, lambda: f"  the import is {upload.job.get('status')}", every_s=0.5)
        worker.ask_to_stop()
        if code := worker.stop():
            raise HeadwaterError(f"{worker.name} ended with exit code {code}, not 0; {worker.tail()}")
        self.children.remove(worker)
        return upload

    def _stop(self) -> Child:
        """Both end between two batches; the jobs, which are returned, then prove what they did."""
        self.tell("stopping jobs and API (SIGTERM)")
        jobs, api, _ = self.children
        for child in (jobs, api):
            child.ask_to_stop()
        if code := api.stop():
            raise HeadwaterError(f"{api.name} ended with exit code {code}, not 0; {api.tail()}")
        return jobs

    def _ends(self) -> dict[str, int]:
        return {topic: end_offset(self.settings, topic) for topic in (REFUSALS, *EVENTS_OUT, LETTERS)}

    def _produced(self) -> dict[str, int]:
        """Records by topic since the demo began."""
        return {topic: end - self.ends[topic] for topic, end in self._ends().items()}

    def _rows(self) -> dict[str, int]:
        return {
            "postgres": rows_in_postgres(self.settings, self.run, self.since),
            "elasticsearch": documents_in_elasticsearch(self.settings, self._tenants()),
        }

    def _deliveries(self) -> list[Delivery]:
        return deliveries(self.settings, self.run, self.since)

    @property
    def _kafka(self) -> Tally:
        return self.tallies[Way.KAFKA]

    def _tenants(self) -> dict[str, str]:
        """Key → tenant of every lead that must arrive: valid, and confirmed by API or Kafka."""
        every = self.tallies.values()
        return {
            key: tally.tenants[key]
            for tally in every
            for key in list(tally.confirmed)
            if key in tally.tenants
        }

    def _arrivals(self, wanted: dict[str, str]) -> str:
        batches = [line for line in self.children[0].events() if line.get("event") == "batch"]
        newest = f"; last batch {batches[-1]['query']}, {batches[-1]['rows']:,} rows" if batches else ""
        return f"{len(self.watch.seen):,} of {len(wanted):,} rows in PostgreSQL{newest}"

    def _arrivals_of(self, other: Domain) -> str:
        found, wanted = other.arrived(self.settings, self.children[0])
        return f"  {other.name}: {found:,} of {wanted:,}"

    def _counters(self) -> str:
        http, kafka = self.tallies[Way.HTTP], self._kafka
        return (
            f"HTTP sent {http.total:,}, accepted {http.answers['accepted']:,}, "
            f"refused {http.answers['refused']:,}, no consent {http.answers['discarded']:,}; "
            f"Kafka {kafka.answers['accepted']:,}; rows in PostgreSQL {len(self.watch.seen):,}"
        )

    def _until(
        self,
        done: Callable[[], bool],
        line: Callable[[], str],
        *expected_to_end: Child,
        limit_s: float = 0.0,
        every_s: float = _TICK_S,
    ) -> None:
        """Wait, telling how far it is. HeadwaterError when a process dies meanwhile, or it takes longer than
        `limit_s`, or than our patience if that is more."""
        limit_s, began = max(limit_s, self.patience), time.monotonic()
        told = began
        while not done():
            for child in self.children:
                child.check()
            now = time.monotonic()
            if now - began > limit_s:
                tails = "\n".join(child.tail() for child in (*self.children, *expected_to_end))
                raise HeadwaterError(f"not done within {limit_s:.0f} s: {line().strip()}\n{tails}")
            if now - told >= _TELL_EVERY_S:
                told = now
                self.tell(line())
            time.sleep(every_s)


def demo(
    seconds: float,
    rate: float,
    warm_up: float = 0.0,
    patience: float = PATIENCE_S,
    out: Path | None = None,
    interactions: int = INTERACTIONS,
    crm: int = CRM,
) -> int:
    """Run it; `out` gets the figures as JSON. SIGTERM ends it like Ctrl-C: what it started is stopped."""
    with ended_by_sigterm():
        return Demo(seconds, rate, warm_up, patience, out, interactions, crm).go()
