"""gold.usage_hourly → gold.billing_daily: what a day's usage of a metric costs, line by line."""

from collections.abc import Sequence
from functools import lru_cache

from pyspark.sql import Column
from pyspark.sql import functions as F

from schemas.gold import BILLING_DAILY, USAGE_HOURLY
from schemas.rates import Rate
from transformations.billing import LINE, Books, amount, price, settled, with_billed
from transformations.kpi.base import Kpi


@lru_cache(maxsize=2)  # a rate card is another one when somebody has written it
def _measures(rates: tuple[Rate, ...], currency: str) -> Sequence[Column]:
    unpriced = F.when(price(rates).isNull(), F.col("events")).otherwise(0)
    return (
        F.max("unit").alias("unit"),
        F.sum("quantity").cast("DECIMAL(30,6)").alias("quantity"),
        F.sum("events").alias("events"),
        amount(rates).alias("amount"),
        F.sum(unpriced).alias("unpriced"),
        F.lit(currency).alias("currency"),
        F.trunc(F.max("day"), "month").alias("period"),
    )


def kpi(books: Books) -> Kpi:
    """The KPI by these books."""

    return Kpi(
        BILLING_DAILY,
        USAGE_HOURLY,
        key=LINE,
        identity=("tenant_id", "metric", "model", "window_start"),
        keyed=lambda rows: rows.withColumn("day", F.to_date("window_start")),
        measures=lambda: _measures(books.rates, books.currency),
        reads=("unit", "quantity", "events"),
        day="day",
        also=("period",),
        books=kpi,
        settled=settled(books),
        whole=with_billed(books),
    )


KPI = kpi(Books())
