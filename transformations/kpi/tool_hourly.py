"""silver.tool_invocations → gold.tool_hourly: how often a tool was called and failed, and how slowly."""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import TOOL_HOURLY
from schemas.tables import TOOL_INVOCATIONS
from transformations.kpi.base import Kpi, by_the_hour


@cache
def _measures() -> Sequence[Column]:
    """The share is of all calls; the percentile is exact, as in widget_hourly."""
    errors = F.count_if(F.col("status") == "error")
    return (
        F.max("window_end").alias("window_end"),
        F.count("*").alias("calls"),
        errors.alias("errors"),
        (errors / F.count("*")).alias("error_share"),
        F.percentile("duration_ms", F.lit(0.95)).alias("p95_duration_ms"),
    )


KPI = Kpi(
    TOOL_HOURLY,
    TOOL_INVOCATIONS,
    key=("tenant_id", "tool_name", "window_start"),
    identity=("tenant_id", "event_id"),
    keyed=by_the_hour,
    measures=_measures,
    reads=("status", "duration_ms"),
)
