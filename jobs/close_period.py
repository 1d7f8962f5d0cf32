"""close-period: gold.billing_daily of a month → a row of gold.billing_periods; from then on it never changes.

Safe to run again: a month that is closed already is left as it is. All months up to it are closed with it.
What is used in a closed month and comes later is billed by a signed line in the first open one.
"""

from datetime import date
from typing import Any

import pyarrow as pa
from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.errors import HeadwaterError, QualityError, SetupError
from headwater.log import logger
from headwater.tables import append_rows, ensure_table, read_table
from headwater.version import CODE_VERSION
from jobs.books import after, held, open_month, rate_card
from jobs.queries import Context
from schemas.gold import BILLING_DAILY, BILLING_PERIODS
from schemas.tables import USAGE

_log = logger(__name__)
_SCHEMA = pa.schema(
    [
        ("month", pa.date32()),
        ("lines", pa.int64()),
        ("amount", pa.decimal128(30, 2)),
        ("currency", pa.string()),
        ("closed_at", pa.timestamp("us", tz="UTC")),
        ("run_id", pa.string()),
        ("code_version", pa.string()),
    ]
)


def close_period(context: Context, month: date) -> dict[str, Any]:
    """Close the month. Raises SetupError for one that has not ended, QualityError where usage has no price,
    HeadwaterError while usage of it is not yet counted."""
    if utc_now().date() < after(month):
        raise SetupError(f"{month:%Y-%m} has not ended: it can be closed from {after(month)} on, UTC")
    for table in (USAGE, BILLING_DAILY, BILLING_PERIODS):
        ensure_table(context.spark, context.settings, table)
    with held(context.settings):
        if month < open_month(context):
            _log.info("closed_before", month=f"{month:%Y-%m}")
            return {"closed": f"{month:%Y-%m}", "already": True}
        _check_counted(context, month)
        return _close(context, month)


def _check_counted(context: Context, month: date) -> None:
    spark, settings, end = context.spark, context.settings, F.lit(after(month))
    used = read_table(spark, settings, USAGE.full_name).where(F.col("event_date") < end).count()
    lines = read_table(spark, settings, BILLING_DAILY.full_name).where(F.col("day") < end)
    sums = lines.agg(F.sum("events").alias("events"), F.sum("unpriced").alias("unpriced")).collect()[0]
    if used != (sums["events"] or 0):
        raise HeadwaterError(
            f"gold.billing_daily counts {sums['events'] or 0} of {used} events up to {month:%Y-%m}: run "
            "`python -m jobs build --table usage --once`, or wait for the job that runs, and close again"
        )
    if sums["unpriced"]:
        missing = lines.where("unpriced > 0").select("metric", "model").distinct().limit(5).collect()
        named = ", ".join(sorted(f"{row['metric']} of {row['model'] or 'no model'}" for row in missing))
        raise QualityError(
            f"{sums['unpriced']} events up to {month:%Y-%m} have no price ({named}): add rates to "
            f"{settings.billing.rates}, then `python -m jobs build --table usage --once --from-start`"
        )


def _close(context: Context, month: date) -> dict[str, Any]:
    spark, settings = context.spark, context.settings
    lines = read_table(spark, settings, BILLING_DAILY.full_name).where(F.col("period") == F.lit(month))
    sums = lines.agg(F.count("*").alias("lines"), F.sum("amount").alias("amount")).collect()[0]
    row = {
        "month": month,
        "lines": sums["lines"],
        "amount": sums["amount"] or 0,
        "currency": rate_card(settings).currency,
        "closed_at": utc_now(),
        "run_id": context.run_id,
        "code_version": CODE_VERSION,
    }
    append_rows(spark, pa.Table.from_pylist([row], schema=_SCHEMA), settings, BILLING_PERIODS.full_name)
    context.written.update((BILLING_PERIODS.full_name,))
    _log.info("closed", month=f"{month:%Y-%m}", lines=row["lines"], amount=str(row["amount"]))
    told = {"lines": row["lines"], "amount": str(row["amount"]), "currency": row["currency"]}
    return {"closed": f"{month:%Y-%m}", **told}
