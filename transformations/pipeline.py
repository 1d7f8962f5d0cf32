"""silver.crm_opportunities → gold.crm_pipeline, what each opportunity is like now, and
gold.crm_pipeline_daily, what all of them came to at the end of each day.

An event says what the opportunity is like from then on, so its newest event says what it is like now: newest
by event time, in whatever order events came. Copies of an event change nothing.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.gold import CRM_PIPELINE, CRM_PIPELINE_DAILY
from transformations.kpi.base import gold_rows, lineage

OPEN, WON, LOST = "open", "won", "lost"
_OPPORTUNITY = ("tenant_id", "opportunity_id")
_GROUP = ("tenant_id", "currency", "stage", "status")
_MONEY = "DECIMAL(20,2)"
_SUM = "DECIMAL(30,2)"


def pipeline(opportunities: DataFrame) -> DataFrame:
    """Rows of silver.crm_opportunities, all of a tenant's → rows of gold.crm_pipeline, one an opportunity.

    Null rule: what its newest event does not say is null; `weighted` is where amount or probability are.
    """
    known = _with_status(opportunities).withColumn("amount", F.col("amount").cast(_MONEY))
    said = ("lead_id", "contact_id", "stage", "status", "amount", "currency", "probability", "weighted")
    latest = F.max_by(F.struct(*said, "expected_close_date"), _version()).alias("latest")
    closing = F.when(F.col("status") != OPEN, F.col("status_since"))
    made = known.groupBy(*_OPPORTUNITY).agg(
        latest,
        F.min("event_time").alias("opened_at"),
        F.max("event_time").alias("changed_at"),
        F.max_by(closing, _version()).alias("closed_at"),
        *lineage(),
    )
    return made.select("*", "latest.*").transform(gold_rows(CRM_PIPELINE, "opened_at"))


def pipeline_daily(opportunities: DataFrame) -> DataFrame:
    """The same rows → rows of gold.crm_pipeline_daily.

    A row says how many opportunities of that currency, stage and status there were at the end of the day, and
    what they came to. It holds until the next row of the three: days on which nothing changed have none.
    """
    known = _with_status(opportunities).withColumn("day", F.to_date("event_time"))
    ends = known.groupBy(*_OPPORTUNITY, "day").agg(
        F.max_by(F.struct("currency", "stage", "status", "amount", "weighted"), _version()).alias("end"),
        F.max("row_version").alias("row_version"),
        *lineage(),
    )
    # From each day's end on an opportunity is what it was then, and no more what it was before.
    before = F.lag("end").over(Window.partitionBy(*_OPPORTUNITY).orderBy("day"))
    comes, goes = F.struct(F.lit(1).alias("sign"), "end.*"), F.struct(F.lit(-1).alias("sign"), "before.*")
    moves = F.filter(F.array(comes, goes), lambda move: move["status"].isNotNull())
    moved = ends.withColumn("before", before).withColumn("move", F.explode(moves)).select("*", "move.*")
    key = {name: F.coalesce(name, F.lit("")) for name in ("currency", "stage")}
    moved = moved.drop("move", "end", "before").withColumns(key)
    sums = moved.groupBy(*_GROUP, "day").agg(
        F.sum("sign").alias("opportunities"),
        F.sum(F.col("sign") * _zero("amount")).alias("amount"),
        F.sum(F.col("sign") * _zero("weighted")).alias("weighted"),
        *lineage(),
    )
    so_far = Window.partitionBy(*_GROUP).orderBy("day").rowsBetween(Window.unboundedPreceding, 0)
    totals = {
        "opportunities": F.sum("opportunities").over(so_far),
        "amount": F.sum("amount").over(so_far).cast(_SUM),
        "weighted": F.sum("weighted").over(so_far).cast(_SUM),
    }
    return sums.withColumns(totals).transform(gold_rows(CRM_PIPELINE_DAILY, "day"))


def _with_status(opportunities: DataFrame) -> DataFrame:
    """Add `status` (open, won, lost), since when it is closed, and `weighted`.

    An opportunity is closed by an event that says so, and open again when a later one tells of another stage.
    """
    so_far = Window.partitionBy(*_OPPORTUNITY).orderBy(_version())
    closing = F.when(F.col("event_type") == "opportunity.won", WON)
    closing = closing.when(F.col("event_type") == "opportunity.lost", LOST)
    closed = F.when(
        closing.isNotNull(), F.struct(closing.alias("as"), "stage", F.col("event_time").alias("at"))
    )
    known = opportunities.withColumn("closed", F.last(closed, ignorenulls=True).over(so_far))
    holds = F.col("closed.stage").eqNullSafe(F.col("stage"))
    status = F.when(holds & F.col("closed").isNotNull(), F.col("closed.as")).otherwise(OPEN)
    known = known.withColumns({"status": status, "status_since": F.col("closed.at")})
    return known.withColumn("weighted", _weighted())


def _weighted() -> Column:
    """Of an open one the amount by its probability, to the cent, half even; of a won one all."""
    closed = F.when(F.col("status") == WON, 100).when(F.col("status") == LOST, 0)
    share = closed.otherwise(F.col("probability"))
    return F.bround(F.col("amount") * share.cast("DECIMAL(3,0)") / F.lit(100), 2).cast(_MONEY)


def _zero(name: str) -> Column:
    return F.coalesce(F.col(name), F.lit(0)).cast(_MONEY)


def _version() -> Column:
    """Events of one moment that are on several partitions may have one row_version."""
    return F.struct("row_version", "source_partition", "source_offset")
