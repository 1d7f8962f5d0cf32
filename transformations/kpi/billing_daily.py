"""gold.usage_hourly → gold.billing_daily: what a day's usage of a metric costs, line by line."""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import BILLING_DAILY, USAGE_HOURLY
from transformations.billing import LINE, Books, amount, price, settled
from transformations.kpi.base import Kpi


def kpi(books: Books) -> Kpi:
    """The KPI by these books."""

    def measures() -> Sequence[Column]:
        unpriced = F.when(price(books.rates).isNull(), F.col("events")).otherwise(0)
        return (
            F.max("unit").alias("unit"),
            F.sum("quantity").cast("DECIMAL(30,6)").alias("quantity"),
            F.sum("events").alias("events"),
            amount(books.rates).alias("amount"),
            F.sum(unpriced).alias("unpriced"),
            F.lit(books.currency).alias("currency"),
            F.trunc(F.max("day"), "month").alias("period"),
        )

    return Kpi(
        BILLING_DAILY,
        USAGE_HOURLY,
        key=LINE,
        identity=("tenant_id", "metric", "model", "window_start"),
        keyed=lambda rows: rows.withColumn("day", F.to_date("window_start")),
        measures=measures,
        reads=("unit", "quantity", "events"),
        day="day",
        also=("period",),
        books=kpi,
        settled=settled(books),
    )


KPI = kpi(Books())
