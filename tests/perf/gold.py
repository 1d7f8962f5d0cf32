"""`python -m tests.perf.gold`: seconds for a batch of two builds of gold, at 1 and at 10 times the history.

Each batch has 1 % of its events in old hours. A lake of its own, nothing but Spark beside it; medians of the
batches behind the first ones, which a young driver takes longer for.
"""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from headwater.session import build_session
from headwater.settings import Settings, load_settings
from headwater.tables import append_rows, ensure_table, read_table
from jobs.build import Build
from jobs.queries import Context
from local.places import say
from schemas.tables import AGENT_TURNS, USAGE, Table

NOW = datetime(2026, 3, 1, tzinfo=UTC)
OLD_SHARE = 0.01
# Old events are of so many different hours, however long the history is.
OLD_HOURS = 5
TABLES = (USAGE, AGENT_TURNS)
_YOUNG = 4


def main(
    history: Annotated[int, typer.Option(help="Rows of silver at 1 x, ten days of them.")] = 50_000,
    factor: Annotated[int, typer.Option(help="How much longer the other history is.")] = 10,
    rows: Annotated[int, typer.Option(help="Rows of a batch.")] = 500,
    batches: Annotated[int, typer.Option(help="Batches that are measured.")] = 9,
) -> None:
    """Print the medians and their ratio, by table."""
    found: dict[tuple[str, int], float] = {}
    for times in (1, factor):
        with tempfile.TemporaryDirectory(prefix="headwater-gold-") as folder:
            settings = load_settings("local").model_copy(update={"lake": folder})
            spark = build_session(settings, "bench gold")
            for table in TABLES:
                seconds = list(_measured(spark, settings, table, history * times, 10 * times, rows, batches))
                found[table.name, times] = median(seconds[_YOUNG:])
                say(f"build.{table.name} at {times} x: " + ", ".join(f"{s:.2f}" for s in seconds))
            spark.stop()
    for table in TABLES:
        one, more = found[table.name, 1], found[table.name, factor]
        print(f"build.{table.name}: {one:.2f} s at 1 x, {more:.2f} s at {factor} x: {more / one:.2f}")


def _measured(
    spark: SparkSession, settings: Settings, table: Table, history: int, days: int, rows: int, batches: int
) -> Iterator[float]:
    schema = to_arrow_schema(spark.createDataFrame([], table.columns).schema)
    ensure_table(spark, settings, table)
    rng = np.random.default_rng(7)
    minutes = rng.integers(0, days * 1440, history)
    append_rows(spark, _rows(schema, minutes, 0), settings, table.full_name)
    build = Build(Context(spark, settings, "bench"), table.name)
    build.prepare()
    old = rng.integers(2, days * 24, OLD_HOURS) * 60
    for number in range(_YOUNG + batches):
        first = history + number * rows
        late = int(rows * OLD_SHARE)
        mixed = np.concatenate([rng.integers(0, 60, rows - late), rng.choice(old, late)])
        append_rows(spark, _rows(schema, mixed, first), settings, table.full_name)
        new = read_table(spark, settings, table.full_name).where(f"row_version >= {first}")
        began = time.monotonic()
        build.write(new, number)
        yield time.monotonic() - began


def _rows(schema: pa.Schema, minutes_ago: np.ndarray, first: int) -> pa.Table:
    """A row for each moment; five turns a session, thirty tenants' metrics."""
    count = len(minutes_ago)
    times = [NOW - timedelta(minutes=int(minutes)) for minutes in minutes_ago]
    known = {
        "event_id": [f"e{first + n}" for n in range(count)],
        "session_id": [f"s{time.timestamp() // 3600:.0f}-{n % 40}" for n, time in enumerate(times)],
        "turn_id": [f"t{first + n}" for n in range(count)],
        "metric": [f"metric_{n % 30}" for n in range(count)],
        "quantity": [1] * count,
        "tokens_in": [n % 1000 for n in range(count)],
        "latency_ms": [float(n % 900) for n in range(count)],
        "event_date": [time.date() for time in times],
        "tenant_id": ["acme"] * count,
        "row_version": range(first, first + count),
        **{name: times for name in ("event_time", "ingested_at", "refined_at")},
        "source_topic": ["t"] * count,
        "source_partition": [0] * count,
        "source_offset": range(first, first + count),
    }
    columns = [
        pa.array(list(known[f.name]), f.type) if f.name in known else pa.nulls(count, f.type) for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


if __name__ == "__main__":
    typer.run(main)
