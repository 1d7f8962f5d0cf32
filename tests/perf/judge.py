"""How long does refine judge a record? `python -m tests.perf.judge [--rows N] [--broken SHARE] [--ascii]`

Sample leads → Arrow batches as Spark hands them to a Python worker → outcome rows, without Spark, in this
process. Prints nanoseconds of CPU a record, by step, the least and the median of all rounds, as a JSON line.
"""

import argparse
import gc
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import process_time_ns
from typing import Any
from unittest.mock import patch

import pyarrow as pa

from local.traffic import Mix, Way, traffic
from tests.builders import LEAD, arrow_bronze, arrow_schema
from transformations import classify, verdict
from transformations.classify import Classifier, outcome_columns

# spark.sql.execution.arrow.maxRecordsPerBatch of headwater/session.py.
BATCH = 5_000
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")


class Stopwatch:
    """Nanoseconds of CPU by step."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = defaultdict(int)

    def timed(self, step: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time added to the step."""

        def measured(*given: Any) -> Any:
            began = process_time_ns()
            found = work(*given)
            self.spent[step] += process_time_ns() - began
            return found

        return measured


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--broken", type=float, default=0.02, help="share of broken records")
    options.add_argument("--ascii", action="store_true", help="letters beyond ASCII become x")
    asked = options.parse_args()
    batches = list(bronze(asked.rows, asked.broken, asked.ascii))
    rounds = list(measure(batches, asked.rounds))
    for name, summary in (("least", min), ("median", statistics.median)):
        told = {step: round(summary([spent[step] for spent in rounds]) / asked.rows) for step in rounds[0]}
        print(json.dumps({"ns_a_record": name, **told}), flush=True)


def bronze(rows: int, broken: float, ascii_only: bool) -> Iterator[pa.RecordBatch]:
    """Sample leads as batches."""
    events = traffic(Way.KAFKA, rows, run="perf", seed=1, mix=Mix(broken=broken))
    bodies = [_BEYOND_ASCII.sub(b"x", event.body) if ascii_only else event.body for event in events]
    for first in range(0, rows, BATCH):
        yield arrow_bronze(bodies[first : first + BATCH], first=first)


def measure(batches: list[pa.RecordBatch], rounds: int) -> Iterator[dict[str, int]]:
    """The time of each round by step, after one that warms up."""
    watch = Stopwatch()
    with ExitStack() as patched:
        for step, module, name in (("quick", verdict, "quick_reader"), ("exact", verdict, "_exact")):
            patched.enter_context(patch.object(module, name, _made_timed(watch, step, getattr(module, name))))
        ...
    work = Classifier((LEAD,), None, arrow_schema(outcome_columns([LEAD], ["refined_at"])))
