"""explain-bill: the events behind a number of gold.billing_daily, one JSON object a line; writes nothing."""

import json
from datetime import date
from typing import Any

from pyspark.sql import functions as F

from headwater.errors import QualityError, SetupError
from headwater.tables import exists, read_table
from jobs.books import rate_card
from jobs.queries import Context
from schemas.gold import BILLING_DAILY
from schemas.tables import USAGE
from transformations.billing import price

_EVENT = ("event_id", "event_time", "model", "quantity", "unit", "price")
_PLACE = ("source_topic", "source_partition", "source_offset")


def explain_bill(context: Context, tenant: str, day: date, metric: str) -> dict[str, Any]:
    """Print each event with its place in Kafka and its price, then each line; give their sums.

    Raises SetupError where there is nothing to read, QualityError when events and lines do not agree.
    """
    spark, settings = context.spark, context.settings
    for table in (USAGE, BILLING_DAILY):
        if not exists(spark, settings, table.full_name):
            raise SetupError(f"there is no table {table.full_name}: run `python -m jobs migrate`")
    card = rate_card(settings)
    mine = (F.col("tenant_id") == tenant) & (F.col("metric") == metric)
    used = read_table(spark, settings, USAGE.full_name).where(mine & (F.col("event_date") == F.lit(day)))
    named = used.withColumn("model", F.coalesce("model", F.lit(""))).withColumn("price", price(card.rates))
    events, quantity = 0, 0
    for row in named.select(*_EVENT, *_PLACE).orderBy("event_time", *_PLACE).toLocalIterator():
        print(json.dumps({"event": row.asDict()}, default=str), flush=True)
        events, quantity = events + 1, quantity + row["quantity"]
    lines = read_table(spark, settings, BILLING_DAILY.full_name).where(mine & (F.col("day") == F.lit(day)))
    names = ("period", "model", "quantity", "events", "amount", "unpriced", "currency")
    billed = [row.asDict() for row in lines.select(*names).orderBy("period", "model").collect()]
    for line in billed:
        print(json.dumps({"line": line}, default=str), flush=True)
    found = sum(line["events"] for line in billed), sum(line["quantity"] for line in billed)
    if found != (events, quantity):
        raise QualityError(
            f"{events} events of {quantity} in silver.usage, {found[0]} of {found[1]} in gold.billing_daily: "
            "run `python -m jobs build --table usage --once`, or wait for the job that runs"
        )
    amount = sum(line["amount"] or 0 for line in billed)
    return {"events": events, "quantity": str(quantity), "amount": str(amount), "currency": card.currency}
