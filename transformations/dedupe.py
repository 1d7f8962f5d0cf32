"""Classified rows → the first of each event within the window.

The window is measured on `refined_at`, the batch's own time: one value per batch, the same when a batch is
replayed, so no first-seen event is ever dropped as late, however old it is and in whatever order files are
read.
"""

from collections.abc import Callable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from schemas.contract import Contract
from transformations.columns import dedupe_hash, record_hash


def with_dedupe_hash(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Add `dedupe_hash`: of stream, tenant and key for valid rows, of the record's own place for all others.

    Never null: null keys would count as equal to each other.
    """

    def apply(classified: DataFrame) -> DataFrame:
        key = [F.col(f"`{pointer}`").cast("string") for pointer in contract.dedupe_key]
        identity = dedupe_hash(F.lit(contract.stream), F.col(f"`{contract.tenant_field}`"), key)
        place = record_hash(F.col("topic"), F.col("partition"), F.col("offset"))
        return classified.withColumn(
            "dedupe_hash", F.when(F.col("outcome") == "silver", identity).otherwise(place)
        )

    return apply


def first_within(window: str) -> Callable[[DataFrame], DataFrame]:
    """Stamp rows with the batch's time, `refined_at`, and keep the first per dedupe_hash within `window`.

    The time is a constant in the code that Spark generates, and another one in every batch: it is kept out of
    the large expressions of the decoding.
    """

    def apply(rows: DataFrame) -> DataFrame:
        stamped = rows.withColumn("refined_at", F.current_timestamp())
        return stamped.withWatermark("refined_at", window).dropDuplicatesWithinWatermark(["dedupe_hash"])

    return apply
