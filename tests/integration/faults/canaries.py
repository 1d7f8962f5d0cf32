"""People whose data must be found nowhere but in the tables, and where else it is looked for."""

import secrets
import urllib.request
from pathlib import Path

from tests.integration.jobs_harness import Sent, World, dead, good, refused

_MARK = secrets.token_hex(4)  # so that no log of an earlier run can be meant
_FIELDS = {
    "payload__email": f"canary.{_MARK}@example.com",
    "payload__phone": "+14155550199",
    "payload__first_name": f"Canary{_MARK}",
    "payload__message": f"my secret is hunter{_MARK}",
}
_BROKEN = _FIELDS | {"payload__email": f"canary.{_MARK} at example.com"}
_WORDS = (f"canary.{_MARK}", "4155550199", f"Canary{_MARK}", f"hunter{_MARK}")


def slice_of(number: int) -> list[Sent]:
    """Ten leads, one again, two broken ones and a refusal, all of the same person."""
    return [
        *[good("acme", f"canary{number}.{n}", **_FIELDS) for n in range(10)],
        good("acme", f"canary{number}.0", "duplicate", **_FIELDS),
        dead("acme", f"canary.b{number}", "rule:pattern", **_BROKEN),
        dead("acme", f"canary.c{number}", "rule:max_length", source=f"hunter{_MARK}" * 9, **_FIELDS),
        refused("acme", f"canary.n{number}", **_BROKEN),
    ]


def metrics_of(world: World) -> str:
    """What a running job says of itself."""
    with urllib.request.urlopen(f"http://127.0.0.1:{world.metrics_port}/metrics", timeout=10) as answer:
        told = str(answer.read().decode())
    assert 'consumer_events_processed_total{outcome="silver",query="refine.leads"' in told
    return told


def found(world: World, servers: list[Path]) -> dict[str, list[str]]:
    """Files that name someone: logs of jobs and servers, Spark's events, metrics, checkpoints and state, the
    tables' logs."""
    places = [world.folder / name for name in ("logs", "events", "metrics.txt")]
    places += [world.lake / "_checkpoints", *world.lake.glob("*/*/_delta_log")]
    places += [world.broker.folder / "broker.log", *servers]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*"))]
    words = {str(file): _words_in(file) for file in files if file.is_file()}
    assert len(words) > 20
    events = [file for file in (world.folder / "events").rglob("*") if file.is_file()]
    assert any(b"SparkListenerApplicationStart" in file.read_bytes() for file in events)
    assert any("elasticsearch" in file for file in words)
    return {file: named for file, named in words.items() if named}


def _words_in(file: Path) -> list[str]:
    content = file.read_bytes()
    return [word for word in _WORDS if word.encode() in content]
