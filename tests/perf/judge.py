"""How long does refine judge a record? `python -m tests.perf.judge [--rows N] [--broken SHARE] [--ascii]`

Sample leads → Arrow batches as Spark hands them to a Python worker → outcome rows, in this process, without
Spark. Prints the nanoseconds of CPU that a record costs, of all and of steps within it, as JSON lines: the
least of all rounds, which other work on the machine disturbs least, and their median.
"""

import argparse
import gc
import json
import statistics
from collections.abc import Callable
from time import process_time_ns
from typing import Any

import pyarrow as pa

from headwater.identity import dedupe_hashes
from tests.builders import ARRIVED, LEAD, arrow_bronze, arrow_schema
from tests.perf.sample import leads
from transformations.classify import Classifier, outcome_columns
from transformations.leads import normalise_leads
from transformations.quick import quick_reader
from transformations.verdict import judge

# spark.sql.execution.arrow.maxRecordsPerBatch of headwater/session.py
BATCH = 5_000


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--broken", type=float, default=0.02, help="share of broken records")
    options.add_argument("--ascii", action="store_true", help="letters beyond ASCII become x")
    asked = options.parse_args()
    bodies = sample(asked.rows, asked.broken, asked.ascii)
    work = steps([bodies[first : first + BATCH] for first in range(0, asked.rows, BATCH)])
    gc.freeze()  # the garbage collector is not to visit what only the measurement keeps
    rounds = [{name: cost(step, asked.rows) for name, step in work.items()} for _ in range(asked.rounds + 1)]
    for name, summary in (("least", min), ("median", statistics.median)):
        told = {step: round(summary([one[step] for one in rounds[1:]])) for step in work}
        print(json.dumps({"ns_a_record": name, **told}), flush=True)


def sample(rows: int, broken: float, ascii_only: bool) -> list[bytes]:
    """Sample leads, received when `arrow_bronze` says that they arrived."""
    return [event.body for event in leads(rows, broken, ascii_only=ascii_only, clock=lambda: ARRIVED)]


def steps(parts: list[list[bytes]]) -> dict[str, Callable[[], Any]]:
    """The whole, and its steps on the same records: each can be run again and again."""
    schema = arrow_schema(outcome_columns([LEAD], ["refined_at"]))
    batches = [arrow_bronze(part, first=n * BATCH) for n, part in enumerate(parts)]
    whole = Classifier((LEAD,), None, schema)
    normalise = normalise_leads(None)
    read, decide = quick_reader(LEAD), judge(LEAD, normalise)
    arrived = [int(ARRIVED.timestamp()) * 1_000_000] * BATCH
    # Of valid records only, which is what these two steps get.
    valid = [[part[row] for row in decide(part, arrived[: len(part)])[0].rows] for part in parts]
    taken = [read(part, arrived[: len(part)]).columns for part in valid]
    tenant, key = LEAD.tenant_field, LEAD.dedupe_key[0]
    return {
        "all": lambda: pa.Table.from_batches(whole(batches), schema),
        "judge": lambda: [decide(part, arrived[: len(part)]) for part in parts],
        "read": lambda: [read(part, arrived[: len(part)]) for part in parts],
        "normalise": lambda: [normalise(said, [None] * len(said[key]), said[tenant]) for said in taken],
        "dedupe_hash": lambda: [dedupe_hashes(LEAD.stream, said[tenant], [said[key]]) for said in taken],
    }


def cost(step: Callable[[], Any], rows: int) -> float:
    """Nanoseconds of CPU a record."""
    began = process_time_ns()
    step()
    return (process_time_ns() - began) / rows


if __name__ == "__main__":
    main()
