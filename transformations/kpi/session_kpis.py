"""silver.agent_turns → gold.session_kpis: a conversation in numbers."""

from collections.abc import Sequence
from functools import cache

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import SESSION_KPIS
from schemas.tables import AGENT_TURNS
from transformations.kpi.base import Kpi


@cache
def _measures() -> Sequence[Column]:
    """The newest user and channel that was named; sums leave out what was not said."""
    return (
        _newest_said("user_id"),
        _newest_said("channel"),
        F.count("*").cast("int").alias("turns"),
        F.sum(F.col("tokens_in").cast("bigint")).alias("tokens_in"),
        F.sum(F.col("tokens_out").cast("bigint")).alias("tokens_out"),
        F.avg("latency_ms").alias("avg_latency_ms"),
        F.min("event_time").alias("started_at"),
        F.max("event_time").alias("ended_at"),
    )


def _newest_said(name: str) -> Column:
    said = F.when(F.col(name).isNotNull(), F.struct("row_version", name))
    return F.max(said)[name].alias(name)


KPI = Kpi(
    SESSION_KPIS,
    AGENT_TURNS,
    key=("tenant_id", "session_id"),
    identity=("tenant_id", "session_id", "turn_id"),
    keyed=lambda rows: rows,
    measures=_measures,
    reads=("user_id", "channel", "tokens_in", "tokens_out", "latency_ms"),
    day="started_at",
    is_long=True,
)
