"""bronze → one row per record with its outcome: silver, dead or no_consent.

The pipeline of a stream, read from top to bottom. Payload bytes go on only with dead rows, so that the
shuffle before the dedupe carries fields, not documents.
"""

from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.contract import Contract
from transformations.columns import row_version
from transformations.dedupe import with_dedupe_hash
from transformations.envelope import parse_json
from transformations.validate import find_reasons, read_fields

DEAD_LETTER_PAYLOAD_BYTES = 256 << 10


def classify(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Records of one topic → outcome rows: `outcome`, `stream`, `tenant_id`, `dedupe_hash`, `reasons`,
    `event` (the contract's leaves by pointer), `extras`, `row_version`, `event_time` and where it came from.
    """

    def apply(bronze: DataFrame) -> DataFrame:
        return (
            bronze.transform(parse_json)
            .transform(read_fields(contract))
            .transform(find_reasons(contract))
            .transform(with_outcome(contract))
            .transform(with_dedupe_hash(contract))
            .select(*_columns(contract))
        )

    return apply


def with_outcome(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Add `outcome`. Refused consent wins over every other fault, even in a document too large to parse."""

    def apply(checked: DataFrame) -> DataFrame:
        refused = _refused(contract) if contract.consent_field else F.lit(False)
        outcome = F.when(refused, "no_consent").when(F.size("reasons") > 0, "dead").otherwise("silver")
        return checked.withColumn("outcome", outcome)

    return apply


def _refused(contract: Contract) -> Column:
    field = F.col(f"`{contract.consent_field}`")
    path = "$" + "".join(f".{key}" for key in (contract.consent_field or "").strip("/").split("/"))
    # Documents with a fault of their own were not read into fields: look into their text.
    raw = F.get_json_object(F.col("value").cast("string"), path)
    in_text = F.when(
        F.col("fault").isNotNull() & ~F.col("fault").isin("empty", "malformed_json"), raw == "false"
    )
    return F.coalesce(~field, in_text, F.lit(False))


def _fingerprint() -> Column:
    """sha-256 of the sorted distinct reason codes joined by commas, NUL, and the whole value."""
    codes = F.array_join(F.array_sort(F.array_distinct(F.transform("reasons", lambda r: r["code"]))), ",")
    value = F.coalesce("value", F.lit(bytearray()))
    return F.sha2(F.concat(codes.cast("binary"), F.lit(bytearray(1)), value), 256)


def _columns(contract: Contract) -> list[Column]:
    dead, kept = F.col("outcome") == "dead", F.col("outcome") == "silver"
    event_time = F.col(f"`{contract.event_time_field}`")
    event = F.struct(*[F.col(f"`{f.pointer}`").alias(f.pointer) for f in contract.leaves])
    return [
        F.col("outcome"),
        F.lit(contract.stream).alias("stream"),
        F.col(f"`{contract.tenant_field}`").alias("tenant_id"),
        F.col("dedupe_hash"),
        F.when(dead, F.col("reasons")).alias("reasons"),
        F.when(kept, event).alias("event"),
        F.when(kept, F.col("extras")).alias("extras"),
        F.when(kept, row_version(event_time, F.col("offset"))).alias("row_version"),
        F.when(F.col("outcome") != "no_consent", event_time).alias("event_time"),
        F.when(dead, F.substring("value", 1, DEAD_LETTER_PAYLOAD_BYTES)).alias("payload"),
        F.when(dead, _fingerprint()).alias("fingerprint"),
        F.when(dead, F.col("headers")).alias("headers"),
        F.col("topic"),
        F.col("partition"),
        F.col("offset"),
        F.col("ingested_at"),
    ]
