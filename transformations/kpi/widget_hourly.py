"""silver.widget_performance → gold.widget_hourly: how quickly a widget was there, by hour."""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import WIDGET_HOURLY
from schemas.tables import WIDGET_PERFORMANCE
from transformations.kpi.base import Kpi, by_the_hour


@cache
def _measures() -> Sequence[Column]:
    """Percentiles are exact, between two values in proportion to their distance (SQL's PERCENTILE_CONT)."""
    return (
        F.max("window_end").alias("window_end"),
        F.count("*").alias("loads"),
        F.percentile("load_ms", F.lit(0.5)).alias("p50_load_ms"),
        F.percentile("load_ms", F.lit(0.95)).alias("p95_load_ms"),
        F.avg("render_ms").alias("avg_render_ms"),
        F.coalesce(F.sum(F.col("error_count").cast("bigint")), F.lit(0)).alias("errors"),
    )


KPI = Kpi(
    WIDGET_HOURLY,
    WIDGET_PERFORMANCE,
    key=("tenant_id", "widget_id", "window_start"),
    identity=("tenant_id", "event_id"),
    keyed=by_the_hour,
    measures=_measures,
    reads=("load_ms", "render_ms", "error_count"),
)
