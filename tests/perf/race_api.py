"""POST /ingest: `python -m api` against a textbook FastAPI and aiokafka service (tests/perf/peer_api.py).

Both are one process, wait for all brokers, and linger as long; both write to one Kafka of the race's own. The
sender keeps to a constant rate whether or not earlier answers have come, and a latency counts from when its
request was due. A rate is borne when at least 99 % are answered 202, and 95 % of all within 250 ms.
"""

import asyncio
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

from headwater.kafka import producer_config
from headwater.settings import Settings, load_settings
from local.demo_watch import end_offset
from local.places import ROOT, say
from local.traffic import Mix, Way, traffic
from tests.integration.api_server import STOP_S, free_port, running_api
from tests.integration.broker import TOPIC, eventually
from tests.perf.api_load import FREELY, Measured, Request, kafka, quantiles, send
from tests.perf.figures import OURS, CountError, Figure, interleaved

PEER = "FastAPI + aiokafka"
RATES = (125, 250, 500, 750, 1_000, 1_500, 2_000)
RUNG_S = 8.0
CALM_RATE = 300
LEAST_SHARE = 0.99
MOST_MS = 250.0
_KIND = "valid"
_VALID_ONLY = Mix(duplicate=0, broken=0, no_consent=0)


@dataclass(frozen=True)
class Service:
    """Where a contender listens, what its callers send besides, and the Kafka that it writes to."""

    name: str
    port: int
    headers: dict[str, str]
    settings: Settings


@dataclass(frozen=True)
class Borne:
    """How one rate was borne."""

    share: float
    p50_ms: float
    p95_ms: float

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
            peer(folder, settings) as port,
        ):
            services = (
                Service(OURS, server.port, {"X-API-Key": server.key}, settings),
                Service(PEER, port, {}, settings),
            )
            calm: dict[str, list[Borne]] = {service.name: [] for service in services}
            runs = interleaved(rounds, {s.name: climbing(s, rows, calm[s.name]) for s in services})
    return [figure for name, found in runs.items() for figure in figures(name, found, calm[name][1:])]


def figures(contender: str, highest: tuple[float, ...], calm: list[Borne]) -> list[Figure]:
    """Of one contender, without its warm-up."""
    at = f"at {CALM_RATE}/s"
    return [
        Figure("api", contender, "requests/s", highest),
        Figure("api", contender, f"p50 ms {at}", tuple(one.p50_ms for one in calm), higher_is_better=False),
        Figure("api", contender, f"p95 ms {at}", tuple(one.p95_ms for one in calm), higher_is_better=False),
    ]


def climbing(service: Service, rows: int, calm: list[Borne]) -> Callable[[], float]:
    """One round of a contender: the calm rate, which is added to `calm`, then up the ladder."""

    def climb() -> float:
        calm.append(bear(service, CALM_RATE, rows))
        highest = 0.0
        for rate in RATES:
            if not bear(service, rate, round(rate * RUNG_S)).well:
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
        Request(_KIND, 202, "/ingest", event.body, common | {"Idempotency-Key": event.key})
        for event in events
    ]
    before, measured = end_offset(service.settings, TOPIC), Measured()
    asyncio.run(send(service.port, wanted, rate, measured))
    accepted = measured.answers[f"{_KIND} as due"]
    written = end_offset(service.settings, TOPIC) - before
    # More is right when an answer came too late: the event is there, its 202 is not.
    if written < accepted or (accepted == count and written > count):
        raise CountError(f"{service.name}: {written:,} records in Kafka, {accepted:,} answers 202")
    found = quantiles(measured.latencies_ms[_KIND])
    borne = Borne(accepted / count, found["p50"], found["p95"])
    say(f"  api: {service.name} at {rate:,.0f}/s: {borne.share:.1%} accepted, p95 {borne.p95_ms:,.0f} ms")
    return borne


@contextmanager
def peer(folder: Path, settings: Settings) -> Iterator[int]:
    """The port of the peer, while it runs."""
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
        yield port
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
