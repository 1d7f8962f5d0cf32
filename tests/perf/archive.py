"""What does an hour of the archive cost? `python -m tests.perf.archive [--rows N] [--batch N] [--values N]`

An hour of lead.ingest, N records in 6 partitions, is written to bronze as ingest writes it: batches of a
size, a file each. Then `jobs archive --once` and `jobs archive --verify` run as processes. Prints, as JSON
lines, what the job itself says (rows, bytes, seconds), rows a second, and the most memory that it held.
"""

import argparse
import json
import random
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from tests.integration.archive.harness import HOUR, TEN, Lake, lead
from tests.integration.jobs_harness import Ended
from tests.perf.figures import proven
from tests.perf.uploads import watched

PARTITIONS = 6
_LETTERS = "abcdefghijklmnopqrstuvwxyz     "


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--batch", type=int, default=5_000)
    options.add_argument("--values", type=int, default=450)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        lake = Lake(Path(name))
        lake.configure(file_bytes=128 << 20)
        fill(lake, asked.rows, asked.batch, asked.values)
        for word in ("--once", "--verify"):
            ended, most = run(lake, word)
            proven(asked.rows, ended.status["rows_out"])
            print(json.dumps({word: told(ended.status, most)}), flush=True)


def fill(lake: Lake, rows: int, batch: int, size: int) -> None:
    """Leads of about so many bytes, all different."""
    dice = random.Random(1)  # noqa: S311 - made values are no secret
    padding = ["".join(dice.choices(_LETTERS, k=max(0, size - 170))) for _ in range(997)]
    for number, first in enumerate(range(0, rows, batch)):
        count = min(batch, rows - first)
        values = [lead(n, message=padding[n % len(padding)]) for n in range(first, first + count)]
        at = TEN + timedelta(seconds=3_000 * number * batch / rows)
        lake.arrive(at, values, partition=number % PARTITIONS)
    assert at < TEN + HOUR


def run(lake: Lake, word: str) -> tuple[Ended, float]:
    """The job as a process, and the most MiB that it held."""
    job = lake.start(word)
    with watched(psutil.Process(job.process.pid)) as most:
        ended = job.wait(3_600, quiet_s=3_600)
    proven(0, ended.code)
    return ended, most["rss"]


def told(status: dict[str, Any], most: float) -> dict[str, Any]:
    rows, seconds = status["rows_out"], status["seconds"]
    counts = status.get("archive") or status["verified"]
    return {
        "rows": rows,
        "megabytes": round(counts["bytes"] / 1e6, 1),
        "files": counts["files"],
        "seconds": seconds,
        "rows_a_second": round(rows / seconds),
        "most_mib": round(most),
    }


if __name__ == "__main__":
    main()
