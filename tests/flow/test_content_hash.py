"""The hash of a row's content as a Spark column, against json and hashlib: one Spark job an example."""

import hashlib
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from tests.unit.test_content_hash import KINDS, ROWS, said
from transformations.columns import content_hash

FEW = settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would start a Spark job a step
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
MANY = 100
DDL = "text STRING, count BIGINT, price DECIMAL(38,10), agreed BOOLEAN, day DATE, at TIMESTAMP"
ODD = [
    (),
    ({"price": Decimal("0.0000000001")},),
    ({"price": Decimal("-100"), "count": -(1 << 63)},),
    ({"at": datetime(1, 1, 1, tzinfo=UTC), "day": date(1, 1, 1)},),
    ({"at": datetime(2026, 3, 1, 10, 20, 0, 100_000, tzinfo=UTC)},),
    ({"text": "".join(map(chr, range(1, 0x21))) + '\\"\\\\u0001\x7f\u2028\U0001f469', "agreed": False},),
]


def hashed(spark: SparkSession, rows: list[dict[str, Any]]) -> list[str]:
    """The column of every row, in order."""
    numbered = [(n, *(row.get(name) for name in KINDS)) for n, row in enumerate(rows)]
    frame = spark.createDataFrame(numbered, f"n INT, {DDL}").select("n", content_hash(KINDS).alias("found"))
    return [row["found"] for row in sorted(frame.collect(), key=lambda row: row["n"])]


def expected(row: dict[str, Any]) -> str:
    text = json.dumps(said(row), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@FEW
@given(rows=st.lists(ROWS, min_size=MANY, max_size=MANY))
def test_a_content_hash_in_spark_is_that_of_the_rows_json(
    spark: SparkSession, rows: list[dict[str, Any]]
) -> None:
    assert hashed(spark, rows) == list(map(expected, rows))


@pytest.mark.parametrize("rows", ODD, ids=range(len(ODD)))
def test_odd_values_have_the_hash_of_their_json(
    spark: SparkSession, rows: tuple[dict[str, Any], ...]
) -> None:
    found = list(rows) or [{}]
    assert hashed(spark, found) == list(map(expected, found))
