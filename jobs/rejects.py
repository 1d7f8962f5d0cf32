"""Rows that a destination refused → dead letters of stage sink:<name>, with their bytes from bronze."""

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.tables import read_table
from headwater.version import CODE_VERSION
from jobs.queries import Context
from schemas.contract import domain_contracts
from schemas.tables import DEAD_LETTERS, LETTER_PAYLOAD_BYTES, bronze
from sinks.base import Rejected

_SCHEMA = "topic STRING, partition INT, offset BIGINT, tenant_id STRING, code STRING, rule STRING"


def rejected_letters(context: Context, domain: str, sink: str, rejected: Sequence[Rejected]) -> DataFrame:
    """One dead letter per refused row; payload is null where bronze has been purged."""
    spark = context.spark
    contracts = {c.topic: c for c in domain_contracts(domain).values()}
    places = spark.createDataFrame(
        [
            (r.source_topic, r.source_partition, r.source_offset, r.tenant_id, r.code, r.rule)
            for r in rejected
        ],
        _SCHEMA,
    )
    raw = read_table(spark, context.settings, bronze(domain).full_name)
    raw = raw.where(F.col("topic").isin(*contracts)).select(
        "topic", "partition", "offset", "value", "headers"
    )
    letters = places.join(raw, ["topic", "partition", "offset"], "left").withColumn(
        "stage", F.lit(f"sink:{sink}")
    )
    message = F.concat(F.lit("the destination refused the row with code "), F.col("code"))
    reason = F.struct(
        F.lit("sink_rejected").alias("code"), "rule", F.lit("").alias("field"), message.alias("message")
    )
    place = F.concat_ws(
        "/", "stage", "topic", F.col("partition").cast("string"), F.col("offset").cast("string")
    )
    streams = F.create_map(*[F.lit(v) for c in contracts.values() for v in (c.topic, c.stream)])
    versions = F.create_map(*[F.lit(v) for c in contracts.values() for v in (c.topic, c.version)])
    columns = {
        "dead_letter_id": F.sha2(place, 256),
        "fingerprint": F.sha2(
            F.concat(F.encode(F.lit("sink_rejected\0"), "UTF-8"), F.coalesce("value", F.lit(bytearray()))),
            256,
        ),
        "stream": F.element_at(streams, F.col("topic")),
        "reasons": F.array(reason),
        "payload": F.substring("value", 1, LETTER_PAYLOAD_BYTES),
        "source_topic": F.col("topic"),
        "source_partition": F.col("partition"),
        "source_offset": F.col("offset"),
        "event_id": F.lit(None).cast("string"),
        "event_time": F.lit(None).cast("timestamp"),
        "failed_at": F.lit(utc_now()),
        "code_version": F.lit(CODE_VERSION),
        "contract_version": F.element_at(versions, F.col("topic")),
        "replay_count": F.lit(None).cast("int"),
        "replay_of": F.lit(None).cast("string"),
        "status": F.lit("new"),
        "failed_sinks": F.array(F.lit(sink)),
    }
    names = [field.name for field in spark.createDataFrame([], DEAD_LETTERS.columns).schema]
    kept = read_table(spark, context.settings, DEAD_LETTERS.full_name).select("dead_letter_id")
    # A rebuild, or a lost checkpoint, meets the same refusals again.
    return (
        letters.withColumns(columns).select(*names).join(kept, "dead_letter_id", "left_anti").select(*names)
    )
