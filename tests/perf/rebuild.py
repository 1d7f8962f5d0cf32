"""`python -m tests.perf.rebuild`: seconds to plan and to do a rebuild, after a rule that refuses one in 100.

Events of usage, a lake of its own, nothing but Spark beside it; one run.
"""

import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from headwater.session import build_session
from jobs.rebuild import Order, rebuild
from jobs.rebuild_shadow import Span
from jobs.refine import Refine
from local.places import say
from tests.conftest import settings_at
from tests.flow.usage_lake import ARRIVED, CONTRACT, THEN, UsageLake, used

RULE = "rules:\n  acme: [{property: /model, logicalTypeOptions: {maxLength: 5}}]\n"
_EVERY = 100


def main(records: Annotated[int, typer.Option(help="Records of the span.")] = 200_000) -> None:
    """Print seconds and records a second."""
    with tempfile.TemporaryDirectory(prefix="headwater-rebuild-") as folder:
        overlays = Path(folder, "overlays")
        overlays.mkdir()
        base = settings_at(Path(folder, "lake"))
        streams = base.streams.model_copy(update={"overlays": overlays})
        spark = build_session(base, "headwater bench")
        lake = UsageLake(spark, base.model_copy(update={"streams": streams}))
        events = [
            used(f"e{number}", THEN, model="too long" if number % _EVERY == 0 else "short")
            for number in range(records)
        ]
        lake.arrive(events)
        say(f"refine: {timed(lambda: lake.run(Refine)):.1f} s, with Spark's start")
        Path(overlays, f"{CONTRACT.stream}.yaml").write_text(RULE)
        span = Span(CONTRACT.stream, ARRIVED, ARRIVED + timedelta(seconds=1))
        numbers: list[UUID] = []
        took = timed(lambda: numbers.append(UUID(rebuild(lake.context(), Order(span))["rebuild_id"])))
        say(f"plan: {took:.1f} s, {records / took:,.0f} records/s")
        took = timed(lambda: rebuild(lake.context(), Order(apply=numbers[0], why="bench")))
        say(f"apply, of {records // _EVERY:,} records that change: {took:.1f} s")
        spark.stop()


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    typer.run(main)
