"""silver.frontend_interactions → gold.frontend_hourly: what people did on the pages, by hour and kind."""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import FRONTEND_HOURLY
from schemas.tables import FRONTEND_INTERACTIONS
from transformations.kpi.base import Kpi, by_the_hour


@cache
def _measures() -> Sequence[Column]:
    """Distinct visits, people and pages: those that were named."""
    return (
        F.max("window_end").alias("window_end"),
        F.count("*").alias("events"),
        F.count_distinct("session_id").alias("sessions"),
        F.count_distinct("user_id").alias("users"),
        F.count_distinct("page_url").alias("pages"),
    )


KPI = Kpi(
    FRONTEND_HOURLY,
    FRONTEND_INTERACTIONS,
    key=("tenant_id", "event_type", "window_start"),
    identity=("tenant_id", "event_id"),
    keyed=by_the_hour,
    measures=_measures,
    reads=("session_id", "user_id", "page_url"),
)
