"""A micro-batch of Kafka's records: how it is counted, and when it is written from the driver."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, Observation, SparkSession

from headwater.offsets import (
    Range,
    Ranges,
    counted_ranges,
    numbered,
    observe_places,
    observed_ranges,
    ranges_here,
)
from schemas.tables import bronze
from sources import kafka_few
from sources.kafka_few import few_records

PLACES = [("it's-a.topic", 0), ("it's-a.topic", 1), ("x", 0)]
AT = datetime(2025, 1, 1, 10, tzinfo=UTC)
MIXED = [("x", 0, 9), ("it's-a.topic", 1, 4), ("x", 0, 3), ("it's-a.topic", 1, 5)]
COUNTED = {"x-0": Range(3, 9, 2), "it's-a.topic-1": Range(4, 5, 2)}


def record(topic: str = "x", partition: int = 0, offset: int = 0, **changes: Any) -> dict[str, Any]:
    made = {"key": b"k", "value": b"v", "headers": None, "topic": topic, "partition": partition}
    return {
        **made,
        "offset": offset,
        "kafka_timestamp": AT,
        "ingested_at": AT,
        "ingest_date": AT.date(),
    } | changes


def records(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    return spark.createDataFrame([list(row.values()) for row in rows], bronze("leads").columns)


def observed(rows: DataFrame) -> Ranges | None:
    counted = Observation()
    observe_places(rows.transform(numbered(PLACES)), counted, PLACES).count()
    return observed_ranges(counted.get, PLACES)


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """Of a query whose first batch had four offsets at most."""
    (tmp_path / "offsets").mkdir()
    (tmp_path / "offsets" / "0").write_text(f"v1\n{{}}\n{json.dumps({'x': {'0': 4}})}", encoding="utf-8")
    return str(tmp_path)


def test_ranges_are_the_same_however_they_are_counted(spark: SparkSession) -> None:
    rows = records(spark, *[record(*place) for place in MIXED])
    assert observed(rows.repartition(3)) == counted_ranges(rows) == ranges_here(rows.toArrow()) == COUNTED


def test_of_a_partition_that_nobody_knew_of_the_observation_says_nothing(spark: SparkSession) -> None:
    assert observed(records(spark, record("x", 1, 5))) is None
    assert observed(records(spark, record("y", 0, 5))) is None


def test_few_short_records_come_to_the_driver_as_they_are(spark: SparkSession, checkpoint: str) -> None:
    rows = records(
        spark,
        record(offset=0, headers=[("id", b"1"), ("none", None)]),
        record(offset=1, key=None, value=None, headers=[]),
        record(offset=2, value=b"\xff" * 1000),
    )
    few = few_records(rows, checkpoint, 0)
    assert few is not None and few.schema.names == rows.columns
    assert few.to_pylist() == rows.toArrow().to_pylist()


@pytest.mark.parametrize(
    "long",
    [{"value": b"v" * 26}, {"key": b"k" * 26}, {"headers": [("h", b"1" * 13), ("h", b"2" * 13)]}],
    ids=["value", "key", "headers"],
)
def test_a_batch_with_a_record_that_is_too_long_for_so_many_is_left_to_spark(
    spark: SparkSession, checkpoint: str, monkeypatch: pytest.MonkeyPatch, long: dict[str, Any]
) -> None:
    monkeypatch.setattr(kafka_few, "FEW_BYTES", 100)  # 25 each, of four
    assert few_records(records(spark, record(), record(offset=1, value=b"v" * 24)), checkpoint, 0) is not None
    assert few_records(records(spark, record(), record(offset=1, **long)), checkpoint, 0) is None


def test_a_batch_of_many_records_is_left_to_spark_unread(
    spark: SparkSession, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_few, "FEW_RECORDS", 3)
    assert few_records(records(spark, record()), checkpoint, 0) is None
