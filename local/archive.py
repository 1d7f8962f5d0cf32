"""Classes that every driver loads, archived by the JVM itself: each start takes some seconds less.

`python -m local archive` runs a small lake once, from bronze rows to silver, and has the JVM keep what it
loaded (a dynamic CDS archive, JEP 350). A JVM that finds it unfit, another Java or other jars, ignores it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater import delta_log
from headwater.session import build_session, class_archive
from headwater.settings import Settings, load_settings
from headwater.tables import append_once, checkpoint_path, ensure_table, table_path
from local.bronze import bronze_rows
from local.places import say
from local.traffic import Mix, Way, traffic
from schemas.contract import contracts
from schemas.tables import SILVER, bronze
from transformations.classify import classify, silver_rows
from transformations.dedupe import first_within, stamped

STREAM = "lead.ingest"
ROWS = 200
_LIMIT_S = 300


def make() -> None:
    """Make the archive. A start without one is only slower: a failure is told, and nothing more."""
    settings = load_settings("staging")
    target = class_archive(settings)
    if target is None or target.exists():
        return
    say("archiving the classes that a job loads")
    draft = target.with_suffix(".draft")
    env = os.environ | {"JAVA_TOOL_OPTIONS": f"-XX:ArchiveClassesAtExit={draft} -Xlog:disable"}
    ended = subprocess.run(
        [sys.executable, "-m", "local.archive"], env=env, capture_output=True, timeout=_LIMIT_S, check=False
    )
    if ended.returncode == 0 and draft.exists():
        draft.replace(target)
    else:
        say(f"no class archive (exit code {ended.returncode}): jobs start some seconds later")


def work(settings: Settings) -> None:
    """Bronze rows to silver, as refine does it, and to JSON as a sink does."""
    spark = build_session(settings, "archive")
    contract = contracts()[STREAM]
    table, silver = bronze(contract.domain), SILVER[STREAM]
    for one in (table, silver):
        ensure_table(spark, settings, one)
    events = list(traffic(Way.KAFKA, ROWS, run="archive", seed=1, mix=Mix()))
    delta_log.append_rows(bronze_rows(events, 0, 0), table_path(settings, table.full_name))

    def write(batch: DataFrame, number: int) -> None:
        kept = batch.persist()
        kept.groupBy("stream", "outcome").count().collect()
        append_once(kept.transform(silver_rows(contract)), settings, silver.full_name, "archive", number)
        kept.unpersist()

    def read(batch: DataFrame, _number: int) -> None:
        batch.select(F.to_json(F.struct("*"))).toArrow()

    source = spark.readStream.format("delta")
    marked = (
        source.load(table_path(settings, table.full_name)).transform(stamped).transform(classify(contract))
    )
    into = marked.transform(first_within(contract.dedupe_window)).writeStream.foreachBatch(write)
    into.option("checkpointLocation", checkpoint_path(settings, "a")).trigger(
        availableNow=True
    ).start().awaitTermination()
    back = source.load(table_path(settings, silver.full_name)).writeStream.foreachBatch(read)
    back.option("checkpointLocation", checkpoint_path(settings, "b")).trigger(
        availableNow=True
    ).start().awaitTermination()
    spark.read.format("delta").load(table_path(settings, silver.full_name)).count()
    spark.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="headwater-archive-") as folder:
        base = load_settings("staging")
        spark_settings = base.spark.model_copy(update={"master": "local[2]", "shuffle_partitions": 2})
        work(base.model_copy(update={"lake": str(Path(folder) / "lake"), "spark": spark_settings}))
