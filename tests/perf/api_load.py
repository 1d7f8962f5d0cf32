"""Does the API's memory stay flat under load? `python -m tests.perf.api_load [--minutes M] [--rate R]`

Starts a Kafka of its own and an API, sends mixed requests at a constant rate, each when it is due whether
earlier ones are answered or not, and samples the API's resident memory. A latency counts from when the
request was due. Prints one JSON document; exits 1 when memory grows after the warm-up, or when an answer
was not the one that was due to its kind of request.
"""

import argparse
import asyncio
import gzip
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from headwater.settings import load_settings
from schemas.topics import create_topics
from tests.integration.api_server import ApiServer, running_api
from tests.integration.broker import Broker
from tests.perf.sender import Answers, Request, new_runner, post, quantiles, send

WARM_UP = 0.2  # share of the time whose memory does not count
MAX_SLOPE_MIB_PER_MIN = 0.5  # what the regression of a noisy machine may show
SAMPLE_S = 1.0
FREELY = {"HEADWATER_API__RATE_PER_SECOND": "100000", "HEADWATER_API__RATE_BURST": "200000"}
_MIB = 1 << 20
_NDJSON = "application/x-ndjson"
Memory = tuple[float, float]  # seconds since the start, MiB


def event(number: int, size: int = 300) -> dict[str, Any]:
    """A valid event; each has a key of its own."""
    message = f"Please call me about plan {number}. ".ljust(size, "x")
    payload = {
        "email": f"lead.{number}@example.com",
        "first_name": "Zoë",
        "message": message,
        "consent": True,
    }
    return {"source": "load", "idempotency_key": f"load-{number}", "payload": payload}


def dump(document: object) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def lines(number: int) -> bytes:
    """Fifty lines, one of them broken."""
    return b"\n".join([*(dump(event(number * 100 + line)) for line in range(49)), b"{"])


def refused(number: int) -> dict[str, Any]:
    """An event with three faults and a key that no other has."""
    return event(number) | {"source": None, f"unknown-{number}": 1, "context": []}


# Kind → share, status, path, body, headers.
Maker = Callable[[int], bytes]
MIX: dict[str, tuple[int, int, str, Maker, dict[str, str]]] = {
    "valid": (68, 202, "/ingest", lambda n: dump(event(n)), {}),
    "no_consent": (4, 202, "/ingest", lambda n: dump(event(n) | {"payload": {"consent": False}}), {}),
    "packed": (4, 202, "/ingest", lambda n: gzip.compress(dump(event(n)), 1), {"Content-Encoding": "gzip"}),
    "large": (4, 202, "/ingest", lambda n: dump(event(n, 60_000)), {}),
    "batch": (2, 202, "/ingest/batch", lines, {"Content-Type": _NDJSON}),
    "invalid": (7, 422, "/ingest", lambda n: dump(refused(n)), {}),
    "malformed": (4, 400, "/ingest", lambda n: dump(event(n))[:-1], {}),
    "too_large": (2, 413, "/ingest", lambda n: dump(event(n, 70_000)), {}),
    "bomb": (1, 413, "/ingest", lambda n: gzip.compress(b"\0" * 2_000_000, 1), {"Content-Encoding": "gzip"}),
    "stranger": (3, 401, "/ingest", lambda n: dump(event(n)), {"X-API-Key": "hw_nobody_0123456789abcdef"}),
    "nowhere": (1, 404, "/nowhere", lambda n: b"", {}),
}


def requests(key: str, seed: int) -> Iterator[Request]:
    """Endless; the same seed gives the same ones."""
    rng = random.Random(seed)  # noqa: S311 - sample data, not secrets
    shares = [share for share, *_ in MIX.values()]
    common = {"X-API-Key": key, "Content-Type": "application/json"}
    number = 0
    while True:
        number += 1
        kind = rng.choices(list(MIX), shares)[0]
        _, status, path, body, headers = MIX[kind]
        yield post(kind, status, path, body(number), common | headers)


async def load(server: ApiServer, seconds: float, rate: float, seed: int) -> tuple[Answers, list[Memory]]:
    """Send for that long, and wait for the last answers."""
    memory: list[Memory] = []
    sampler = asyncio.create_task(sample(server, memory))
    source = islice(requests(server.key, seed), round(seconds * rate))
    answers = await send(server.port, source, rate)
    sampler.cancel()
    return answers, memory


async def sample(server: ApiServer, memory: list[Memory]) -> None:
    """The API's resident memory, every second."""
    assert server.process is not None
    process, began = psutil.Process(server.process.pid), time.monotonic()
    while True:
        memory.append((time.monotonic() - began, process.memory_info().rss / _MIB))
        await asyncio.sleep(SAMPLE_S)


def report(answers: Answers, memory: list[Memory], rate: float) -> dict[str, Any]:
    """The figures, and whether they are good."""
    warm = [(at, mib) for at, mib in memory if at >= memory[-1][0] * WARM_UP]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope * 60
    wrong = {kind: count for kind, count in answers.counts.items() if not kind.endswith("as due")}
    every = [ms for found in answers.latencies_ms.values() for ms in found]
    return {
        "rate_per_s": rate,
        "requests": len(every),
        "unexpected": wrong,
        "latency_ms": {"all": quantiles(every)}
        | {kind: quantiles(found) for kind, found in sorted(answers.latencies_ms.items())},
        "memory_mib": {
            "start": round(memory[0][1], 1),
            "warm": round(warm[0][1], 1),
            "end": round(memory[-1][1], 1),
            "max": round(max(mib for _, mib in memory), 1),
            "slope_per_min": round(slope, 3),
        },
        "verdict": "flat" if slope <= MAX_SLOPE_MIB_PER_MIN and not wrong else "not good",
    }


@contextmanager
def kafka(folder: Path) -> Iterator[str]:
    """The address of a broker of this run's own, with the topics."""
    broker = Broker(folder)
    broker.format()
    broker.start()
    try:
        settings = load_settings()
        own = settings.kafka.model_copy(update={"bootstrap": broker.bootstrap})
        create_topics(settings.model_copy(update={"kafka": own}))
        yield broker.bootstrap
    finally:
        broker.stop()


def main() -> int:
    """Measure, print, judge."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--rate", type=float, default=300.0, help="requests a second")
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="headwater-api-load-") as name:
        folder = Path(name)
        with (
            kafka(folder) as bootstrap,
            running_api(folder, HEADWATER_KAFKA__BOOTSTRAP=bootstrap, **FREELY) as server,
        ):
            with new_runner() as runner:
                answers, memory = runner.run(load(server, asked.minutes * 60, asked.rate, asked.seed))
    found = report(answers, memory, asked.rate)
    print(json.dumps(found, indent=2))
    return 0 if found["verdict"] == "flat" else 1


if __name__ == "__main__":
    sys.exit(main())
