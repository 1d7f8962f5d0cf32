"""silver.usage → gold.usage_hourly: an hour's usage with each model, of which all of billing is made."""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.gold import USAGE_HOURLY
from schemas.tables import USAGE
from transformations.kpi.base import Kpi, by_the_hour


def _keyed(rows: DataFrame) -> DataFrame:
    """The hour, and the empty text for no model: a key has no nulls."""
    return by_the_hour(rows).withColumn("model", F.coalesce("model", F.lit("")))


@cache
def _measures() -> Sequence[Column]:
    """Sums of decimals are exact: DECIMAL(20,6) becomes DECIMAL(30,6)."""
    return (
        F.max("window_end").alias("window_end"),
        F.max(F.to_date("window_start")).alias("day"),
        F.max("unit").alias("unit"),
        F.sum("quantity").alias("quantity"),
        F.count("*").alias("events"),
    )


KPI = Kpi(
    USAGE_HOURLY,
    USAGE,
    key=("tenant_id", "metric", "model", "window_start"),
    identity=("tenant_id", "event_id"),
    keyed=_keyed,
    measures=_measures,
    reads=("metric", "model", "unit", "quantity"),
)
