"""How fast is refine? `python -m tests.perf.refine [--batches N] [--rows N] [--broken SHARE] [--ascii]`

Sample leads → bronze files in a lake of its own, a file per Kafka partition a batch; then, in this process,
two queries once through all of them: refine itself (decode, judge, normalise, dedupe, write silver, dead
letters and ledger), and a bare peer that only decodes by from_json, hashes the key, dedupes and writes.
A batch is by default as large as the largest of ingest (`streams.max_offsets_per_trigger`), which is what a
backlog gives. As in operation, each query began when there was little, and reads what was committed since.
Prints a JSON line per batch, then the medians of the warm ones and their ratio.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.listener import StreamingQueryListener

from headwater import delta_log
from headwater.session import build_session
from headwater.settings import Settings
from headwater.tables import ensure_table, table_path
from jobs.queries import Context, Query
from jobs.refine import Refine
from jobs.runtime import Runtime
from local.bronze import bronze_rows
from local.traffic import Event
from schemas.tables import bronze
from tests.conftest import settings_at
from tests.integration.broker import eventually
from tests.perf.sample import leads
from transformations.dedupe import first_within, stamped

PARTITIONS = 6
# The first batches of a driver meet cold code: they are told, and not counted.
COLD = 4
BARE = """tenant_id STRING, idempotency_key STRING, received_at STRING, source STRING,
  payload STRUCT<first_name: STRING, last_name: STRING, email: STRING, phone: STRING, message: STRING,
    submission_type: STRING, consent: BOOLEAN>,
  context STRUCT<ip_address: STRING, user_agent: STRING, page_url: STRING>, metadata STRING"""


class Bare:
    """The peer: what is left of refine without its meaning."""

    name = "bare"
    every_s = 1.0
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    def __init__(self, context: Context) -> None:
        self.context = context

    def prepare(self) -> None:
        """Nothing to prepare."""

    def source(self) -> DataFrame:
        """bronze, decoded and deduplicated."""
        event = F.from_json(F.col("value").cast("string"), BARE)
        identity = F.sha2(F.concat_ws("\0", "event.tenant_id", "event.idempotency_key"), 256)
        rows = read_bronze(self.context).transform(stamped).withColumn("event", event)
        fields = rows.withColumn("dedupe_hash", identity).drop("key", "value", "headers")
        return fields.transform(first_within("7 days"))

    def write(self, batch: DataFrame, _batch_id: int) -> None:
        """One table."""
        path = table_path(self.context.settings, "silver.bare")
        batch.write.format("delta").mode("append").save(path)


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--batches", type=int, default=8)
    options.add_argument("--rows", type=int, default=200_000, help="records in a batch")
    options.add_argument("--broken", type=float, default=0.02, help="share of broken records")
    options.add_argument("--ascii", action="store_true", help="letters beyond ASCII become x")
    options.add_argument("--memory", help="of the driver, for example 6g; else as it is by default")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="headwater-perf-") as folder:
        settings = settings_at(Path(folder) / "lake")
        streams = settings.streams.model_copy(update={"max_files_per_trigger": PARTITIONS})
        memory = {"driver_memory": asked.memory or settings.spark.driver_memory}
        driver = settings.spark.model_copy(update=memory)
        settings = settings.model_copy(update={"streams": streams, "spark": driver})
        spark = build_session(settings, "headwater perf")
        events = leads(PARTITIONS + asked.batches * asked.rows, asked.broken, ascii_only=asked.ascii)
        context = Context(spark, settings, "perf")
        queries: list[Query] = [Refine(context, "leads"), Bare(context)]
        write_bronze(spark, settings, 1, PARTITIONS, events)
        for query in queries:
            Runtime(context, once=True).run([query])
        write_bronze(spark, settings, asked.batches, asked.rows, events, first=1)
        medians = {}
        for query in queries:
            rates = [told["rows_per_s"] for told in measure(context, query, asked.batches)]
            medians[query.name] = statistics.median(rates[COLD:] or rates)
        ratio = round(medians["refine.leads"] / medians["bare"], 2)
        print(json.dumps({"median_rows_per_s": medians, "refine_to_bare": ratio, **memory}), flush=True)
        spark.stop()


def write_bronze(
    spark: SparkSession, settings: Settings, batches: int, rows: int, events: Iterator[Event], first: int = 0
) -> None:
    """One file a batch and partition, as ingest would have written it; each partition from offset `first`."""
    ensure_table(spark, settings, bronze("leads"))
    for batch in range(batches):
        for partition in range(PARTITIONS):
            records = [next(events) for _ in range(rows // PARTITIONS)]
            table = bronze_rows(records, partition, first + batch * len(records))
            delta_log.append_rows(table, table_path(settings, "bronze.leads"))


def read_bronze(context: Context) -> DataFrame:
    """The table as a stream, as refine reads it."""
    most = context.settings.streams.max_files_per_trigger
    reader = context.spark.readStream.format("delta").option("maxFilesPerTrigger", most)
    return reader.load(table_path(context.settings, "bronze.leads"))


def measure(context: Context, query: Query, batches: int) -> Iterator[dict[str, Any]]:
    """Run the query through all there is: a line per batch."""
    remembered = Remembered()
    context.spark.streams.addListener(remembered)
    Runtime(context, once=True).run([query])
    # The last one's is told a moment after the query has ended.
    eventually(lambda: len(remembered.batches) == batches, f"{query.name} tells of {batches} batches")
    context.spark.streams.removeListener(remembered)
    for progress in remembered.batches:
        seconds = {part: ms / 1000 for part, ms in progress["durationMs"].items()}
        rate = round(progress["numInputRows"] / seconds["triggerExecution"])
        told = {"query": query.name, "batch": progress["batchId"], "rows": progress["numInputRows"]}
        print(json.dumps({**told, "rows_per_s": rate, "seconds": seconds}), flush=True)
        yield {"rows_per_s": rate}


class Remembered(StreamingQueryListener):
    """Keeps the progress of every batch that had rows."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []

    def onQueryStarted(self, event: Any) -> None:
        """Nothing to keep."""

    def onQueryProgress(self, event: Any) -> None:
        """Keep it."""
        progress = json.loads(event.progress.json)
        if progress["numInputRows"]:
            self.batches.append(progress)

    def onQueryIdle(self, event: Any) -> None:
        """Nothing to keep."""

    def onQueryTerminated(self, event: Any) -> None:
        """Nothing to keep."""


if __name__ == "__main__":
    main()
