"""POST /ingest: `python -m api` against a textbook FastAPI and aiokafka service (tests/perf/peer_api.py).

Both are one process, wait for all brokers, and linger as long; both write to one Kafka of the race's own. The
sender keeps to a constant rate whether or not earlier answers have come, and a latency counts from when its
request was due. A rate is borne when at least 99 % are answered 202, and 95 % of all within 250 ms, in one of
two tries: the machine may have other work. CPU is that of the service's process alone.
"""

import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from headwater.kafka import producer_config
from headwater.settings import Settings, load_settings
from local.demo_watch import end_offset
from local.places import ROOT, say
from local.traffic import Mix, Way, traffic
from tests.integration.api_server import STOP_S, free_port, running_api
from tests.integration.broker import TOPIC, eventually
from tests.perf.api_load import FREELY, kafka
from tests.perf.figures import OURS, CountError, Figure, interleaved
from tests.perf.sender import new_runner, post, quantiles, send

PEER = "FastAPI + aiokafka"
RATES = (250, 500, 750, *range(1_000, 2_000, 125), *range(2_000, 6_001, 250))
RUNG_S = 8.0
TRIES = 2
CALM_RATE = 300
BUSY_RATE = 800  # at which CPU is measured: both bear it
LEAST_SHARE = 0.99
MOST_MS = 250.0
_KIND = "valid"
_VALID_ONLY = Mix(duplicate=0, broken=0, no_consent=0)


@dataclass(frozen=True)
class Service:
    """Where a contender listens, what its callers send besides, and the Kafka that it writes to."""

    name: str
    port: int
    pid: int
    headers: dict[str, str]
    settings: Settings


@dataclass(frozen=True)
class Borne:
    """How one rate was borne."""

    share: float
    p50_ms: float
    p95_ms: float
    cpu_us: float  # of the service, a request

    @property
    def well(self) -> bool:
        return self.share >= LEAST_SHARE and self.p95_ms <= MOST_MS


def race(rows: int, rounds: int) -> list[Figure]:
    """The highest rate of RATES that is borne, and latencies of `rows` requests at CALM_RATE."""
    with tempfile.TemporaryDirectory(prefix="headwater-api-") as name, kafka(Path(name)) as bootstrap:
        folder, base = Path(name), load_settings("local")
        own = base.kafka.model_copy(update={"bootstrap": bootstrap})
        settings = base.model_copy(update={"kafka": own})
        with (
            running_api(folder, HEADWATER_KAFKA__BOOTSTRAP=bootstrap, **FREELY) as server,
            peer(folder, settings) as theirs,
        ):
            assert server.process
            services = (
                Service(OURS, server.port, server.process.pid, {"X-API-Key": server.key}, settings),
                Service(PEER, *theirs, {}, settings),
            )
            seen: dict[str, list[tuple[Borne, Borne]]] = {service.name: [] for service in services}
            runs = interleaved(rounds, {s.name: climbing(s, rows, seen[s.name]) for s in services})
    return [figure for name, found in runs.items() for figure in figures(name, found, seen[name][1:])]


def figures(contender: str, highest: tuple[float, ...], seen: list[tuple[Borne, Borne]]) -> list[Figure]:
    """Of one contender, without its warm-up; `seen` is the calm and the busy rate of each round."""
    lower_is_better: dict[str, Callable[[Borne, Borne], float]] = {
        f"p50 ms at {CALM_RATE}/s": lambda calm, _: calm.p50_ms,
        f"p95 ms at {CALM_RATE}/s": lambda calm, _: calm.p95_ms,
        f"CPU µs a request at {BUSY_RATE}/s": lambda _, busy: busy.cpu_us,
    }
    return [
        Figure("api", contender, "requests/s", highest),
        *(
            Figure("api", contender, measure, tuple(of(*both) for both in seen), higher_is_better=False)
            for measure, of in lower_is_better.items()
        ),
    ]


def climbing(service: Service, rows: int, seen: list[tuple[Borne, Borne]]) -> Callable[[], float]:
    """One round of a contender: the calm and the busy rate, which go to `seen`, then up the ladder."""

    def climb() -> float:
        calm = bear(service, CALM_RATE, rows)
        seen.append((calm, bear(service, BUSY_RATE, round(BUSY_RATE * RUNG_S))))
        highest = 0.0
        for rate in RATES:
            if not any(bear(service, rate, round(rate * RUNG_S)).well for _ in range(TRIES)):
                break
            highest = rate
        if not highest:
            raise AssertionError(f"{service.name} does not bear even {RATES[0]} requests a second")
        return highest

    return climb


def bear(service: Service, rate: float, count: int) -> Borne:
    """Send so many at that rate. Raises CountError when Kafka lacks an event that was answered 202."""
    common = service.headers | {"Content-Type": "application/json"}
    run = f"bench-{uuid.uuid4().hex}-"
    events = traffic(Way.HTTP, count, run=run, seed=1, mix=_VALID_ONLY)
    wanted = [
        post(_KIND, 202, "/ingest", event.body, common | {"Idempotency-Key": event.key}) for event in events
    ]
    before, cpu_before = end_offset(service.settings, TOPIC), cpu_s(service.pid)
    with new_runner() as runner:
        answers = runner.run(send(service.port, wanted, rate))
    cpu_us = (cpu_s(service.pid) - cpu_before) / count * 1e6
    accepted = answers.counts[f"{_KIND} as due"]
    written = end_offset(service.settings, TOPIC) - before
    # More is right when an answer came too late: the event is there, its 202 is not.
    if written < accepted or (accepted == count and written > count):
        raise CountError(f"{service.name}: {written:,} records in Kafka, {accepted:,} answers 202")
    found = quantiles(answers.latencies_ms[_KIND])
    borne = Borne(accepted / count, found["p50"], found["p95"], cpu_us)
    took = f"p95 {borne.p95_ms:,.0f} ms, {cpu_us:,.0f} µs of CPU each"
    say(f"  api: {service.name} at {rate:,.0f}/s: {borne.share:.1%} accepted, {took}")
    return borne


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the process has had."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextmanager
def peer(folder: Path, settings: Settings) -> Iterator[tuple[int, int]]:
    """Port and process id of the peer, while it runs."""
    port = free_port()
    variables = {
        "PEER_KAFKA": settings.kafka.bootstrap,
        "PEER_TOPIC": TOPIC,
        "PEER_LINGER_MS": str(producer_config(settings, "peer", 1)["linger.ms"]),
    }
    words = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--no-access-log")
    with (folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "tests.perf.peer_api:app", *words],
            cwd=ROOT,
            env=os.environ | variables,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: answers(process, port, folder / "peer.log"), "the peer answers")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(STOP_S)


def answers(process: "subprocess.Popen[bytes]", port: int, log: Path) -> bool:
    """Whether it does now. Raises AssertionError with the end of its log when it has ended."""
    assert process.poll() is None, f"the peer ended:\n{log.read_text()[-2000:]}"
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).status_code == 200
    except httpx.TransportError:
        return False
