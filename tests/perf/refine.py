"""How fast is refine? `python -m tests.perf.refine [--batches N] [--rows N] [--broken SHARE]`

Sample leads → bronze files in a lake of its own, a file per Kafka partition a batch; then the query itself,
in this process, once through all of them: decode, validate, dedupe, write silver, dead letters and ledger.
Prints a JSON line per batch and one with the median of the warm ones.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headwater.session import build_session
from headwater.settings import Settings
from headwater.tables import ensure_table, table_path
from jobs.queries import Context
from jobs.refine import Refine
from jobs.runtime import Runtime
from local.traffic import Event, Mix, Way, traffic
from schemas.tables import bronze
from tests.conftest import settings_at

PARTITIONS = 6
# The first batches of a driver meet cold code: they are told, and not counted.
COLD = 4


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--batches", type=int, default=10)
    options.add_argument("--rows", type=int, default=100_000, help="records in a batch")
    options.add_argument("--broken", type=float, default=0.02, help="share of broken records")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="headwater-perf-") as folder:
        settings = settings_at(Path(folder) / "lake")
        streams = settings.streams.model_copy(update={"max_files_per_trigger": PARTITIONS})
        settings = settings.model_copy(update={"streams": streams})
        spark = build_session(settings, "headwater perf")
        write_bronze(spark, settings, asked.batches, asked.rows, asked.broken)
        for line in measure(spark, settings):
            print(json.dumps(line), flush=True)
        spark.stop()


def write_bronze(spark: SparkSession, settings: Settings, batches: int, rows: int, broken: float) -> None:
    """One file a batch, as ingest would have written it."""
    ensure_table(spark, settings, bronze("leads"))
    events = traffic(Way.KAFKA, batches * rows, run="perf", seed=1, mix=Mix(broken=broken))
    for batch in range(batches):
        for partition in range(PARTITIONS):
            write_file(spark, settings, [next(events) for _ in range(rows // PARTITIONS)], partition, batch)


def write_file(
    spark: SparkSession, settings: Settings, events: list[Event], partition: int, batch: int
) -> None:
    """One file with the next records of one partition."""
    first = batch * len(events)
    table = pa.table(
        {
            "key": [f"{e.tenant}|{e.key}".encode() for e in events],
            "value": [e.body for e in events],
            "offset": pa.array(range(first, first + len(events)), pa.int64()),
        }
    )
    arrived = F.lit(datetime.now(UTC))
    frame = spark.createDataFrame(table).select(
        "key",
        "value",
        F.array().cast("array<struct<key: string, value: binary>>").alias("headers"),
        F.lit("lead.ingest").alias("topic"),
        F.lit(partition).alias("partition"),
        "offset",
        arrived.alias("kafka_timestamp"),
        arrived.alias("ingested_at"),
        F.to_date(arrived).alias("ingest_date"),
    )
    frame.coalesce(1).write.format("delta").mode("append").save(table_path(settings, "bronze.leads"))


def measure(spark: SparkSession, settings: Settings) -> Iterator[dict[str, Any]]:
    """A line per batch, then the median rows a second of those behind the first few."""
    query = Refine(Context(spark, settings, "perf"), "leads")
    runtime = Runtime(query.context, once=True)
    found: list[Any] = []
    remember(runtime, found)
    runtime.run([query])
    rates = []
    for progress in found:
        parts = {k: v / 1000 for k, v in progress["durationMs"].items()}
        rates.append(progress["numInputRows"] / parts["triggerExecution"])
        yield {
            "batch": progress["batchId"],
            "rows": progress["numInputRows"],
            "per_s": round(rates[-1]),
            **parts,
        }
    warm = rates[COLD:] or rates
    yield {"median_rows_per_s": round(statistics.median(warm)), "of_batches": len(warm), "cold": rates[:1]}


def remember(runtime: Runtime, found: list[Any]) -> None:
    """Keep every batch's progress: Spark itself remembers the last hundred."""
    from pyspark.sql.streaming.listener import StreamingQueryListener

    class Listener(StreamingQueryListener):
        def onQueryStarted(self, event: Any) -> None:
            return

        def onQueryProgress(self, event: Any) -> None:
            progress = json.loads(event.progress.json)
            if progress["numInputRows"]:
                found.append(progress)

        def onQueryIdle(self, event: Any) -> None:
            return

        def onQueryTerminated(self, event: Any) -> None:
            return

    runtime.context.spark.streams.addListener(Listener())


if __name__ == "__main__":
    main()
