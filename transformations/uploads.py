"""Staged rows of an uploaded file → silver.uploaded_rows, ops.dead_letters and what PostgreSQL takes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.identity import row_version

STREAM = "uploads"
STAGE = "validate"
OFFSET_MASK = (1 << 20) - 1

Step = Callable[[DataFrame], DataFrame]


@dataclass(frozen=True)
class Origin:
    """Whose rows they are. `arrived` is when the job was entered: the same in every attempt."""

    job_id: str
    tenant_id: str
    dataset: str
    dataset_version: str
    arrived: datetime
    code_version: str

    @property
    def topic(self) -> str:
        """What stands for a topic in the lineage; the file in an archive is the partition, the line the
        offset."""
        return f"upload/{self.job_id}"


def tally(staged: DataFrame) -> DataFrame:
    """One row: `read`, as the parsers counted, and the rows that are there: `valid`, `invalid`, `refused`."""
    return staged.agg(
        F.coalesce(F.sum("read"), F.lit(0)).alias("read"),
        F.count("content_hash").alias("valid"),
        F.count("reasons").alias("invalid"),
        F.count("refused").alias("refused"),
    )


def refusals(staged: DataFrame) -> DataFrame:
    """Where a file turned out to be broken, the first place first."""
    return (
        staged.where(F.col("refused").isNotNull())
        .select("member", "line", "refused")
        .orderBy("member", "line")
    )


def loadable(staged: DataFrame) -> DataFrame:
    """Valid rows as sinks/ingested_data.py takes them."""
    return staged.where(F.col("content_hash").isNotNull()).select("content_hash", "data", "line")


def invalid(staged: DataFrame, most: int) -> DataFrame:
    """The first invalid rows, in the order of the file."""
    rows = staged.where(F.col("reasons").isNotNull()).select("member", "line", "reasons", "raw")
    return rows.orderBy("member", "line").limit(most)


def by_first_reason(staged: DataFrame) -> DataFrame:
    """Columns `code`, `count`: invalid rows by the first thing that is wrong with them."""
    code = F.element_at("reasons", 1)["code"].alias("code")
    return staged.where(F.col("reasons").isNotNull()).select(code).groupBy("code").count()


def to_silver(origin: Origin) -> Step:
    """Valid rows → silver.uploaded_rows. Event time is when the file arrived, the same for all its rows."""
    first = row_version(round(origin.arrived.timestamp() * 1_000_000), 0)
    columns = [
        F.lit(origin.job_id).alias("job_id"),
        F.lit(origin.dataset).alias("dataset"),
        F.col("content_hash"),
        F.col("data"),
        F.lit(origin.tenant_id).alias("tenant_id"),
        F.lit(first)
        .cast("bigint")
        .bitwiseOR(F.col("line").bitwiseAND(F.lit(OFFSET_MASK)))
        .alias("row_version"),
        F.lit(origin.arrived).alias("event_time"),
        F.lit(origin.arrived).alias("ingested_at"),
        F.current_timestamp().alias("refined_at"),
        *_place(origin),
        F.lit(None).cast("string").alias("extras"),
    ]

    def apply(staged: DataFrame) -> DataFrame:
        return staged.where(F.col("content_hash").isNotNull()).select(*columns)

    return apply


def to_letters(origin: Origin) -> Step:
    """Invalid rows → a dead letter each, with all reasons and the row as far as it is kept."""
    codes = F.array_join(F.array_sort(F.array_distinct(F.transform("reasons", lambda r: r["code"]))), ",")
    topic = F.lit(origin.topic)
    place = F.concat_ws(
        "/", F.lit(STAGE), topic, F.col("member").cast("string"), F.col("line").cast("string")
    )
    kept = F.coalesce("raw", F.lit(bytearray()))
    columns = [
        F.sha2(place, 256).alias("dead_letter_id"),
        F.sha2(F.concat(F.encode(codes, "UTF-8"), F.lit(bytearray(1)), kept), 256).alias("fingerprint"),
        F.lit(STREAM).alias("stream"),
        F.lit(STAGE).alias("stage"),
        F.lit(origin.tenant_id).alias("tenant_id"),
        F.col("reasons"),
        F.col("raw").alias("payload"),
        F.lit(None).cast("array<struct<key: string, value: binary>>").alias("headers"),
        *_place(origin),
        F.lit(None).cast("string").alias("event_id"),
        F.lit(None).cast("timestamp").alias("event_time"),
        F.current_timestamp().alias("failed_at"),
        F.lit(origin.code_version).alias("code_version"),
        F.lit(origin.dataset_version).alias("contract_version"),
        F.lit(None).cast("int").alias("replay_count"),
        F.lit(None).cast("string").alias("replay_of"),
        F.lit("new").alias("status"),
        F.lit(None).cast("array<string>").alias("failed_sinks"),
    ]

    def apply(staged: DataFrame) -> DataFrame:
        return staged.where(F.col("reasons").isNotNull()).select(*columns)

    return apply


def _place(origin: Origin) -> list[Column]:
    """Where a row stood, as lineage has it."""
    return [
        F.lit(origin.topic).alias("source_topic"),
        F.col("member").alias("source_partition"),
        F.col("line").alias("source_offset"),
    ]
