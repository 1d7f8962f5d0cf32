"""What usage costs, and in which month it is billed: pure functions of the rate card and of closed months.

A line is a tenant's usage of a metric with a model on a day. Months are closed in their order; a line of a
closed month is never changed, and what comes later is a signed line of the first open month.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from schemas.rates import PLACES, Rate

# Months begin on their first day; before any was closed all are open.
FIRST_MONTH = date(1970, 1, 1)
CENTS = 2
# Of these the product is a DECIMAL(38,14), the longest there is. One digit more in either, and Spark would
# round it before it is added up.
_PRICE = f"DECIMAL(15,{PLACES})"
_QUANTITY = "DECIMAL(22,6)"
LINE = ("tenant_id", "day", "metric", "model")
SUMS = ("quantity", "events", "amount", "unpriced")


@dataclass(frozen=True)
class Books:
    """What a bill depends on besides usage: the rates, the first month that is open, and all lines so far
    (gold.billing_daily; None before there are any)."""

    rates: tuple[Rate, ...] = ()
    currency: str = ""
    open_month: date = FIRST_MONTH
    lines: DataFrame | None = None


def price(rates: Sequence[Rate]) -> Column:
    """DECIMAL price of a unit, of a row with tenant_id, metric, model (empty when none) and event_time.

    The rate of the hour's beginning; null when there is none.
    """
    hour = F.date_trunc("hour", "event_time")

    def chosen(other: Column, rate: Rate) -> Column:
        fits = (F.col("metric") == rate.metric) & (hour >= F.lit(rate.since))
        if rate.tenant is not None:
            fits &= F.col("tenant_id") == rate.tenant
        if rate.model is not None:
            fits &= F.col("model") == rate.model
        return F.when(fits, F.lit(rate.price).cast(_PRICE)).otherwise(other)

    return reduce(chosen, sorted(rates, key=_rank), F.lit(None).cast(_PRICE))


def _rank(rate: Rate) -> tuple[Any, ...]:
    """Later ones win: of the tenant before of the model, and the newest of those."""
    return rate.tenant is not None, rate.model is not None, rate.since


def amount(rates: Sequence[Rate]) -> Column:
    """Aggregate: the price of all rows' quantities, exact, and rounded once: to cents, half even."""
    exact = F.sum(F.col("quantity").cast(_QUANTITY) * price(rates))
    return F.bround(exact, CENTS).cast(f"DECIMAL(20,{CENTS})")


def settled(books: Books) -> Callable[[DataFrame], DataFrame]:
    """Lines as usage has them now → as they are to be entered, with `period`, the month that they are billed
    in, and `gone` where nothing is left to enter.

    Of a day in an open month that is the line itself. Of one in a closed month it is what the line has now
    less all that was billed of it, in the first open month. Of a `gone` line what is neither key nor sum is
    null, and is then what the newest line said that was billed.
    """

    def apply(lines: DataFrame) -> DataFrame:
        month = F.trunc("day", "month")
        placed = lines.withColumn("period", F.greatest(month, F.lit(books.open_month)))
        if books.lines is None:
            return placed
        others = [name for name in books.lines.columns if name not in (*LINE, *SUMS, "period")]
        sums = [F.sum(name).alias(f"billed_{name}") for name in SUMS]
        said = [F.max_by(name, F.struct("row_version", "period")).alias(f"billed_{name}") for name in others]
        billed = _closed(books.lines, books.open_month).groupBy(*LINE).agg(*sums, *said)
        joined = placed.join(billed, [*LINE], "left")
        due = {name: _zero(name) - _zero(f"billed_{name}") for name in SUMS}
        nothing = reduce(lambda a, b: a & b, [due[name] == 0 for name in ("quantity", "events", "amount")])
        was_billed = F.col("billed_events").isNotNull()
        kinds = dict(lines.dtypes)
        entered = {
            name: F.when(was_billed, column.cast(kinds[name])).otherwise(F.col(name))
            for name, column in due.items()
        }
        kept = {name: F.coalesce(name, f"billed_{name}") for name in others}
        gone = F.when(was_billed, nothing).otherwise(F.col("gone"))
        made = joined.withColumns({**entered, **kept, "gone": gone})
        return made.drop(*[f"billed_{name}" for name in (*SUMS, *others)])

    return apply


def with_billed(books: Books) -> Callable[[DataFrame], DataFrame]:
    """All lines as usage has them now → the same, and, `gone`, the keys of those that were billed in a closed
    month and of which no usage is left."""

    def apply(lines: DataFrame) -> DataFrame:
        if books.lines is None:
            return lines
        billed = _closed(books.lines, books.open_month).select(*LINE).distinct()
        left = billed.join(lines, [*LINE], "left_anti").withColumn("gone", F.lit(True))
        return lines.unionByName(left, allowMissingColumns=True)

    return apply


def _closed(lines: DataFrame, open_month: date) -> DataFrame:
    return lines.where(F.col("period") < F.lit(open_month))


def _zero(name: str) -> Column:
    return F.coalesce(F.col(name), F.lit(0))
