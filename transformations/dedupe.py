"""Classified rows → the first of each event within the window.

The window is measured on `refined_at`, the batch's own time: one value per batch, the same when a batch is
replayed, so no first-seen event is ever dropped as late, however old it is and in whatever order files are
read.
"""

from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contract import Contract
from schemas.letters import REPLAY_OF
from transformations.columns import dedupe_hash

# Of a SHA-256 in hexadecimal.
_DIGITS = 64


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


def first_within(window: str, anew: Mapping[str, str] | None = None) -> Callable[[DataFrame], DataFrame]:
    """Keep the first row per `dedupe_hash` within `window` of `refined_at`.

    `anew` is by stream: what was seen of one under another text, or none, is forgotten.
    """

    def apply(rows: DataFrame) -> DataFrame:
        first = _marked(rows, anew).withWatermark("refined_at", window)
        first = first.dropDuplicatesWithinWatermark(["dedupe_hash"])
        return first.withColumn("dedupe_hash", F.left("dedupe_hash", F.lit(_DIGITS))) if anew else first

    return apply


def _marked(rows: DataFrame, anew: Mapping[str, str] | None) -> DataFrame:
    if not anew:
        return rows
    texts = F.create_map(*[F.lit(part) for pair in sorted(anew.items()) for part in pair])
    text = F.coalesce(F.try_element_at(texts, F.col("stream")), F.lit(""))
    return rows.withColumn("dedupe_hash", F.concat("dedupe_hash", text))


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
