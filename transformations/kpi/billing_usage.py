"""silver.usage → gold.billing_usage: what a tenant used of a metric in an hour, to the last place."""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import BILLING_USAGE
from schemas.tables import USAGE
from transformations.kpi.base import Kpi, by_the_hour


def _measures() -> Sequence[Column]:
    """Sums of decimals are exact: DECIMAL(20,6) becomes DECIMAL(30,6)."""
    return (
        F.max("window_end").alias("window_end"),
        F.sum("quantity").alias("quantity"),
        F.count("*").alias("events"),
    )


KPI = Kpi(
    BILLING_USAGE,
    USAGE,
    key=("tenant_id", "metric", "window_start"),
    identity=("tenant_id", "event_id"),
    keyed=by_the_hour,
    measures=_measures,
)
