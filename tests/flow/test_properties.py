"""Column functions against plain Python, on values that nobody thought of: one Spark job an example."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from headwater import identity
from tests.unit.test_values import TEXT
from transformations.columns import dedupe_hash, document_key

FEW = settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would start a Spark job a step
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
MANY = 200


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=MANY, max_size=MANY)


def computed(
    spark: SparkSession, rows: Sequence[tuple[Any, ...]], ddl: str, made: Callable[..., Column]
) -> list[Any]:
    """The column of every row, in order."""
    names = [part.split()[0] for part in ddl.split(",")]
    numbered = [(i, *row) for i, row in enumerate(rows)]
    frame = spark.createDataFrame(numbered, f"n INT, {ddl}").select(
        "n", made(*map(F.col, names)).alias("found")
    )
    return [row["found"] for row in sorted(frame.collect(), key=lambda row: row["n"])]


@FEW
@given(parts=lists(st.tuples(TEXT, TEXT, TEXT, TEXT)))
def test_a_dedupe_hash_is_the_one_that_python_makes(
    spark: SparkSession, parts: list[tuple[str, str, str, str]]
) -> None:
    found = computed(
        spark,
        parts,
        "stream STRING, tenant STRING, key1 STRING, key2 STRING",
        lambda stream, tenant, *key: dedupe_hash(stream, tenant, key),
    )
    assert found == [
        identity.dedupe_hashes(stream, [tenant], [[part] for part in key])[0]
        for stream, tenant, *key in parts
    ]


@FEW
@given(pairs=lists(st.tuples(TEXT, TEXT)))
def test_a_document_key_is_the_one_that_python_makes(
    spark: SparkSession, pairs: list[tuple[str, str]]
) -> None:
    found = computed(spark, pairs, "tenant STRING, key STRING", document_key)
    assert found == [identity.document_key(tenant, key) for tenant, key in pairs]
