"""The fix, and the replay: dead letters of a kind that a patch mends, patched and sent again.

Each mend takes all letters of its stream that have its reason; sample traffic has one flaw of that reason.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from local.demo_processes import Child

# A replay is refused where anything that it plans with has moved since, as gold may that is built by the way.
_TRIES = 3
_REFUSED = 3
_WHY = "the proof mends what its own traffic has broken"


@dataclass(frozen=True)
class Mend:
    """A JSON Patch (RFC 6902) that makes valid what came with this flaw."""

    stream: str
    flaw: str
    reason: str
    patch: tuple[dict[str, Any], ...]


MENDS = (
    Mend(
        "lead.ingest",
        "bad_email",
        "rule:pattern",
        ({"op": "replace", "path": "/payload/email", "value": "mended@example.com"},),
    ),
    Mend(
        "agent.tool.invoked",
        "unknown_status",
        "rule:enum",
        ({"op": "replace", "path": "/status", "value": "ok"},),
    ),
)


def replay(folder: Path, wait: Callable[[Child], None]) -> None:
    """Make all of them; `wait` returns when a process has ended. HeadwaterError if one failed."""
    for number, mend in enumerate(MENDS, 1):
        patch = folder / f"patch-{number}.json"
        patch.write_text(json.dumps(mend.patch), encoding="utf-8")
        wanted = ("--stream", mend.stream, "--stage", "validate", "--reason", mend.reason)
        words = ("jobs", "replay", *wanted, "--patch", str(patch), "--yes", "--why", _WHY)
        for attempt in range(1, _TRIES + 1):
            job = Child(f"replay-{number}-{attempt}", *words, of="prove")
            try:
                wait(job)
            finally:
                job.kill()
            if job.exit_code != _REFUSED:
                break
        if job.exit_code:
            raise HeadwaterError(f"{job.name} ended with exit code {job.exit_code}; {job.tail()}")
