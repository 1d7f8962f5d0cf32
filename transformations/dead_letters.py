"""Outcome rows that were rejected → ops.dead_letters; those that were filtered → ops.filtered."""

from collections.abc import Callable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.letters import REPLAY_COUNT, REPLAY_OF
from transformations.columns import sourced

# Where a record can fail before silver.
STAGES = ("decode", "validate", "api")


def to_dead_letters(
    code_version: str, contract_versions: Mapping[str, str]
) -> Callable[[DataFrame], DataFrame]:
    """One dead letter per rejected record, with all its reasons and its original bytes.

    `contract_versions` are by stream.
    `dead_letter_id` = sha-256(stage, topic, partition, offset), the same on every replay of the batch;
    `fingerprint` groups equal ones: the same reasons and the same bytes.
    """

    versions = F.create_map(*[F.lit(part) for pair in contract_versions.items() for part in pair])
    place = F.concat_ws(
        "/", "stage", "topic", F.col("partition").cast("string"), F.col("offset").cast("string")
    )
    is_dead = F.col("outcome") == "dead"
    columns = [
        F.sha2(place, 256).alias("dead_letter_id"),
        *map(F.col, ("fingerprint", "stream", "stage", "tenant_id", "reasons", "payload", "headers")),
        *sourced(),
        F.lit(None).cast("string").alias("event_id"),
        F.col("event_time"),
        F.col("refined_at").alias("failed_at"),
        F.lit(code_version).alias("code_version"),
        F.element_at(versions, F.col("stream")).alias("contract_version"),
        _header(REPLAY_COUNT).try_cast("int").alias("replay_count"),
        _header(REPLAY_OF).alias("replay_of"),
        F.lit("new").alias("status"),
        F.lit(None).cast("array<string>").alias("failed_sinks"),
    ]

    def apply(outcomes: DataFrame) -> DataFrame:
        return outcomes.where(is_dead).select(*columns)

    return apply


def to_filtered(code_version: str) -> Callable[[DataFrame], DataFrame]:
    """One row per event that its tenant does not want, with the filter's name: no payload, no fields."""
    said = F.element_at("reasons", 1)["code"]
    columns = [
        *map(F.col, ("stream", "tenant_id")),
        F.regexp_replace(said, "^filter:", "").alias("filter"),
        *sourced(),
        *map(F.col, ("event_time", "refined_at")),
        F.lit(code_version).alias("code_version"),
    ]
    is_filtered = F.col("outcome") == "filtered"

    def apply(outcomes: DataFrame) -> DataFrame:
        return outcomes.where(is_filtered).select(*columns)

    return apply


def _header(name: str) -> Column:
    found = F.filter("headers", lambda h: h["key"] == name)
    return F.try_element_at(found, F.lit(1))["value"].cast("string")
