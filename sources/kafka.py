"""Kafka topics as a stream of bronze rows, and what is known of the topics themselves."""

import json
from collections.abc import Sequence

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headwater.errors import DataLossError, SetupError
from headwater.kafka import kafka_python_config, spark_config, why_away
from headwater.settings import Settings

EARLIEST = -2
# Larger fetches: throughput of a catch-up doubles, a trickle is unaffected.
_FETCHES = {
    "kafka.max.partition.fetch.bytes": str(8 << 20),
    "kafka.fetch.max.bytes": str(64 << 20),
    "kafka.max.poll.records": "20000",
    # Behind the records that it gives, a consumer asks for more, and at a partition's end the broker keeps it
    # waiting. Spark asks for the partition's bounds next, on the same connection, whose requests wait for one
    # another: half a second for each partition, one after another in a task.
    "kafka.fetch.max.wait.ms": "1",
}
Offsets = dict[str, int]  # "topic-partition" → offset


def read_stream(spark: SparkSession, settings: Settings, topics: Sequence[str], starting: str) -> DataFrame:
    """Records of `topics` as columns of a bronze table, ingested_at being the batch's time."""
    raw = (
        spark.readStream.format("kafka")
        .options(**spark_config(settings), **_FETCHES)
        .option("subscribe", ",".join(sorted(topics)))
        .option("startingOffsets", starting)
        .option("maxOffsetsPerTrigger", settings.streams.max_offsets_per_trigger)
        .option("includeHeaders", "true")
        .option("failOnDataLoss", "true")
        .load()
    )
    return raw.select(
        "key",
        "value",
        "headers",
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("kafka_timestamp"),
        F.current_timestamp().alias("ingested_at"),
        F.to_date(F.current_timestamp()).alias("ingest_date"),
    )


def topic_ids(settings: Settings, topics: Sequence[str]) -> dict[str, str]:
    """The broker's id of each topic: new when it was made again. Raises SetupError for a missing topic."""
    try:
        admin = KafkaAdminClient(**kafka_python_config(settings))
        try:
            described = admin.describe_topics(list(topics))
        finally:
            admin.close()
    except KafkaError as fault:
        raise why_away(settings) from fault
    found = {entry["name"]: str(entry["topic_id"]) for entry in described if not entry.get("error_code")}
    missing = sorted(set(topics) - found.keys())
    if missing:
        raise SetupError(f"no such topic: {', '.join(missing)}; create them with `python -m jobs migrate`")
    return found


def partition_bounds(settings: Settings, topics: Sequence[str]) -> tuple[Offsets, Offsets]:
    """(first offset still there, next offset to be written) of every partition."""
    try:
        consumer = KafkaConsumer(**kafka_python_config(settings))
        try:
            parts = [
                TopicPartition(t, p) for t in topics for p in sorted(consumer.partitions_for_topic(t) or ())
            ]
            first, end = consumer.beginning_offsets(parts), consumer.end_offsets(parts)
        finally:
            consumer.close()
    except KafkaError as fault:
        raise why_away(settings) from fault
    return _named(first), _named(end)


def _named(offsets: dict[TopicPartition, int]) -> Offsets:
    return {f"{tp.topic}-{tp.partition}": int(offset) for tp, offset in offsets.items()}


def starting_offsets(
    settings: Settings, topics: Sequence[str], high_water: Offsets, *, accept_gaps: bool = False
) -> tuple[str, list[str]]:
    """Spark's startingOffsets for a query without a checkpoint: behind what the lake has, else the first.

    Raises DataLossError when Kafka ends before, or starts after, what the lake remembers; with `accept_gaps`
    the latter are left out, and told.
    """
    first, end = partition_bounds(settings, topics)
    starting: dict[str, dict[str, int]] = {}
    gaps = []
    for name in sorted(end):
        topic, partition = name.rsplit("-", 1)
        known = high_water.get(name)
        if known is not None:
            gaps += _gap(name, known + 1, first[name], end[name])
        starting.setdefault(topic, {})[partition] = EARLIEST if known is None else max(known + 1, first[name])
    if gaps and not accept_gaps:
        raise DataLossError(f"{'; '.join(gaps)}. To go on without them: ingest --accept-gap")
    return json.dumps(starting), gaps


def _gap(name: str, wanted: int, first: int, end: int) -> list[str]:
    if wanted > end:
        raise DataLossError(
            f"{name}: the lake has records up to offset {wanted - 1}, Kafka ends at {end - 1}; "
            "was the topic made again?"
        )
    return [f"{name}: offsets {wanted} to {first - 1} left Kafka before they were ingested"] * (
        wanted < first
    )
