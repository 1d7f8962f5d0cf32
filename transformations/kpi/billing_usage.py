"""gold.usage_hourly → gold.billing_usage: what a tenant used of a metric in an hour, to the last place."""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import BILLING_USAGE, USAGE_HOURLY
from transformations.kpi.base import Kpi


@cache
def _measures() -> Sequence[Column]:
    return (
        F.max("window_end").alias("window_end"),
        F.sum("quantity").cast("DECIMAL(30,6)").alias("quantity"),
        F.sum("events").alias("events"),
    )


KPI = Kpi(
    BILLING_USAGE,
    USAGE_HOURLY,
    key=("tenant_id", "metric", "window_start"),
    identity=("tenant_id", "metric", "model", "window_start"),
    keyed=lambda rows: rows,
    measures=_measures,
    reads=("window_end", "quantity", "events"),
)
