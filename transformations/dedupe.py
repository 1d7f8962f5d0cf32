"""Classified rows → the first of each event within the window.

The window is measured on `refined_at`, the batch's own time: one value per batch, the same when a batch is
replayed, so no first-seen event is ever dropped as late, however old it is and in whatever order files are
read.
"""

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contract import Contract
from schemas.letters import REPLAY_OF
from transformations.columns import dedupe_hash


def stamped(rows: DataFrame) -> DataFrame:
    """Add the batch's time, `refined_at`.

    It is a constant in the code that Spark generates, and another one in every batch: stamp where few
    expressions share that code, for all of it is compiled anew.
    """
    return rows.withColumn("refined_at", F.current_timestamp())


def sent_again(records: DataFrame) -> DataFrame:
    """Add `replayed`: whether a record says that it is another one's repetition."""
    says_so = F.exists("headers", lambda header: header["key"] == REPLAY_OF)
    return records.withColumn("replayed", F.coalesce(says_so, F.lit(False)))


def first_within(window: str) -> Callable[[DataFrame], DataFrame]:
    """Keep the first row per `dedupe_hash` within `window` of `refined_at`."""

    def apply(rows: DataFrame) -> DataFrame:
        return rows.withWatermark("refined_at", window).dropDuplicatesWithinWatermark(["dedupe_hash"])

    return apply


def identities(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Rows of the stream's silver table → the `dedupe_hash` of each event, once."""
    identity = identity_of(contract)

    def apply(silver: DataFrame) -> DataFrame:
        return silver.select(identity.alias("dedupe_hash")).distinct()

    return apply


def identity_of(contract: Contract) -> Column:
    """The `dedupe_hash` of a row of the stream's silver table."""
    key = [F.col(name).cast("string") for name in contract.key_columns]
    return dedupe_hash(F.lit(contract.stream), F.col("tenant_id"), key)
