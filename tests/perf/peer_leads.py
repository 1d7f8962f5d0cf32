"""Sample leads as silver.leads holds them, cached in Spark: what the races of the destinations write."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.session import build_session
from local.bronze import bronze_rows
from local.traffic import Mix, Way, traffic
from tests.builders import LEAD
from tests.conftest import settings_at
from transformations.classify import classify, silver_rows
from transformations.dedupe import stamped

# Files of a batch of refine: the batch that a delivery caches has as many partitions.
PARTITIONS = 6
# What a newer version of a lead says, so that it can be counted; no index is on this column.
NEWER = "said again"


@contextmanager
def cached_leads(rows: int) -> Iterator[DataFrame]:
    """So many valid leads, no two of one key. Their Spark session is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder:
        spark = build_session(settings_at(Path(folder)), "headwater bench")
        try:
            events = list(traffic(Way.KAFKA, rows, run="bench", seed=1, mix=Mix(0, 0, 0)))
            records = spark.createDataFrame(bronze_rows(events, 0, 0)).repartition(PARTITIONS)
            outcomes = records.transform(stamped).transform(classify(LEAD))
            yield cached(outcomes.transform(silver_rows(LEAD)))
        finally:
            spark.stop()


def newer(leads: DataFrame) -> DataFrame:
    """The same leads in their next version."""
    later = leads.withColumn("row_version", F.col("row_version") + 1)
    return cached(later.withColumn("submission_type", F.lit(NEWER)))


def cached(leads: DataFrame) -> DataFrame:
    """As a delivery has its batch, with every partition in memory already."""
    kept = leads.persist()
    kept.count()
    return kept


def plain(leads: DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    """These columns as Python has them."""
    found: list[dict[str, Any]] = leads.select(*columns).toArrow().to_pylist()
    return found
