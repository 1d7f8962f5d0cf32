"""What usage costs, and in which month it is billed: columns of Spark against exact fractions in Python."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from headwater.delta_merge import GONE
from schemas.rates import Rate
from tests.flow.test_properties import FEW
from transformations.billing import SUMS, Books, amount, price, settled

NOON = datetime(2025, 10, 5, 12, tzinfo=UTC)
OCTOBER, NOVEMBER, DECEMBER = (date(2025, month, 1) for month in (10, 11, 12))
USED = "tenant_id STRING, metric STRING, model STRING, event_time TIMESTAMP, quantity DECIMAL(30,6)"
LINES = """tenant_id STRING, day DATE, metric STRING, model STRING, quantity DECIMAL(30,6), events BIGINT,
  amount DECIMAL(20,2), unpriced BIGINT"""
CENT = Decimal("0.01")


def rate(said: str, tenant: str | None = None, model: str | None = None, since: datetime = NOON) -> Rate:
    fields = {"metric": "tokens", "from": since, "price": said, "tenant": tenant, "model": model}
    return Rate.model_validate(fields)


def used(
    model: str = "",
    *,
    tenant: str = "acme",
    at: datetime = NOON,
    quantity: object = 1,
    metric: str = "tokens",
) -> tuple[Any, ...]:
    return tenant, metric, model, at, Decimal(str(quantity))


def prices(spark: SparkSession, rates: Sequence[Rate], *rows: tuple[Any, ...]) -> list[Decimal | None]:
    frame = spark.createDataFrame(list(rows), USED).coalesce(1)
    return [row[0] for row in frame.select(price(rates)).collect()]


def test_the_most_particular_rate_counts_whatever_is_newer(spark: SparkSession) -> None:
    later = NOON + timedelta(hours=1)
    rates = [
        rate("1", since=later),
        rate("2", model="large", since=later),
        rate("3", tenant="acme"),
        rate("4", tenant="acme", model="large"),
        rate("9", tenant="globex", model="large"),
    ]
    rows = [
        used("large", at=later), used("small", at=later), used("large", tenant="zeta", at=later),
        used("small", tenant="zeta", at=later), used("large", tenant="globex", at=later),
        used("small", tenant="zeta"), used("small", metric="calls", at=later),
    ]  # fmt: skip
    expected = [4, 3, 2, 1, 9, None, None]
    for order in (rates, rates[::-1]):
        assert prices(spark, order, *rows) == expected


def test_a_rate_begins_with_its_hour_and_of_several_the_newest_counts(spark: SparkSession) -> None:
    rates = [
        rate("2", since=NOON + timedelta(hours=2)),
        rate("1"),
        rate("3", since=NOON + timedelta(hours=5)),
    ]
    moments = [
        (NOON - timedelta(microseconds=1), None),
        (NOON, 1),
        (NOON + timedelta(hours=2, microseconds=-1), 1),
        (NOON + timedelta(hours=2), 2),
        (NOON + timedelta(hours=4, minutes=59), 2),
        (NOON + timedelta(days=300), 3),
    ]
    assert prices(spark, rates, *(used(at=at) for at, _ in moments)) == [said for _, said in moments]
    assert prices(spark, [], used()) == [None]


def test_a_price_keeps_its_eight_places(spark: SparkSession) -> None:
    assert prices(spark, [rate("0.00000001")], used()) == [Decimal("0.00000001")]
    assert prices(spark, [rate("1000000")], used()) == [Decimal(1_000_000)]


def amounts(spark: SparkSession, said: Decimal, bills: Sequence[Sequence[Decimal]]) -> list[Decimal]:
    """What each bill comes to, of its quantities."""
    rows = [used(str(n), quantity=q) for n, quantities in enumerate(bills) for q in quantities]
    frame = spark.createDataFrame(rows, USED)
    found = {row[0]: row[1] for row in frame.groupBy("model").agg(amount([rate(str(said))])).collect()}
    return [found[str(n)] for n in range(len(bills))]


def exact(said: Decimal, quantities: Sequence[Decimal]) -> Decimal:
    """The same by fractions, which are never rounded, and then once."""
    cents = sum((Fraction(q) for q in quantities), Fraction(0)) * Fraction(said) * 100
    return Decimal(round(cents)) * CENT  # Python rounds a fraction half even


@pytest.mark.parametrize(
    ("said", "quantities", "expected"),
    [
        ("0.005", ["1"], "0.00"),
        ("0.005", ["3"], "0.02"),
        ("0.005", ["1", "1"], "0.01"),
        ("0.001", ["1"] * 5, "0.00"),
        ("0.001", ["1"] * 15, "0.02"),
        ("0.005", ["1.000001"], "0.01"),
        ("0.00000001", ["0.000001"] * 3, "0.00"),
        ("0.00000001", ["500000.000001"], "0.01"),
        ("0.00000001", ["1500000"], "0.02"),
        ("0.00000001", ["1499999.999999"], "0.01"),
        ("1000000", ["1000000000"] * 4, "4000000000000000.00"),
    ],
)
def test_a_line_is_rounded_once_and_half_even(
    spark: SparkSession, said: str, quantities: list[str], expected: str
) -> None:
    found = amounts(spark, Decimal(said), [[Decimal(q) for q in quantities]])
    assert found == [Decimal(expected)] == [exact(Decimal(said), [Decimal(q) for q in quantities])]


@FEW
@given(
    st.decimals(0, 1_000_000, places=8),
    st.lists(st.lists(st.decimals(0, 10**9, places=6), min_size=1, max_size=8), min_size=50, max_size=80),
)
@example(Decimal("0.00000001"), [[Decimal(500_000 * n), Decimal("0.000001")] for n in range(50)])
def test_every_amount_is_that_of_exact_fractions(
    spark: SparkSession, said: Decimal, bills: list[list[Decimal]]
) -> None:
    assert amounts(spark, said, bills) == [exact(said, quantities) for quantities in bills]


def test_python_rounds_as_is_said() -> None:
    for text in ("0.005", "0.015", "0.0149", "2.675"):
        assert exact(Decimal(text), [Decimal(1)]) == Decimal(text).quantize(CENT, ROUND_HALF_EVEN)


Line = tuple[date, str, int, str | None]  # day, quantity, events, amount


def enter(
    spark: SparkSession,
    open_month: date,
    entered: Sequence[tuple[date, Line]],
    *now: Line,
    gone: bool = False,
) -> list[tuple[Any, ...]]:
    """(period, quantity, events, amount, gone) of lines as usage has them now."""
    kept = [(period, *line(one)) for period, one in entered]
    books = Books((), "EUR", open_month, spark.createDataFrame(kept, f"period DATE, {LINES}"))
    lines = spark.createDataFrame([(*line(one), gone) for one in now], f"{LINES}, {GONE} BOOLEAN")
    return _found(lines.transform(settled(books)))


def line(said: Line) -> tuple[Any, ...]:
    day, quantity, events, billed = said
    unpriced = events if billed is None else 0
    return "acme", day, "tokens", "", Decimal(quantity), events, billed and Decimal(billed), unpriced


def _found(made: DataFrame) -> list[tuple[Any, ...]]:
    kinds = dict(made.dtypes)
    assert (kinds["quantity"], kinds["amount"]) == ("decimal(30,6)", "decimal(20,2)")
    assert set(SUMS) <= set(kinds) and not [name for name in kinds if name.startswith("billed_")]
    rows = made.select("period", "quantity", "events", "amount", GONE).orderBy("day").collect()
    return [tuple(row) for row in rows]


FIRST, THIRD = OCTOBER, date(2025, 10, 3)


def test_a_line_of_an_open_month_is_entered_as_it_is(spark: SparkSession) -> None:
    now = [(THIRD, "2", 2, "0.10"), (date(2025, 11, 30), "1", 1, None)]
    expected = [(OCTOBER, 2, 2, Decimal("0.10"), False), (NOVEMBER, 1, 1, None, False)]
    assert enter(spark, OCTOBER, [], *now) == expected
    none_closed = spark.createDataFrame([(*line(one), False) for one in now], f"{LINES}, {GONE} BOOLEAN")
    assert _found(none_closed.transform(settled(Books()))) == expected


def test_what_is_late_for_a_closed_month_is_a_signed_line_of_the_first_open_one(spark: SparkSession) -> None:
    closed = [(OCTOBER, (THIRD, "5", 2, "1.00"))]
    assert enter(spark, NOVEMBER, closed, (THIRD, "7.5", 3, "1.50")) == [
        (NOVEMBER, Decimal("2.5"), 1, Decimal("0.50"), False)
    ]
    assert enter(spark, NOVEMBER, closed, (THIRD, "4", 1, "0.80")) == [
        (NOVEMBER, -1, -1, Decimal("-0.20"), False)
    ]
    assert enter(spark, NOVEMBER, closed, (FIRST, "1", 1, "0.20")) == [
        (NOVEMBER, 1, 1, Decimal("0.20"), False)
    ]


def test_what_is_late_again_after_another_close_is_less_all_that_was_billed(spark: SparkSession) -> None:
    closed = [(OCTOBER, (THIRD, "5", 2, "1.00")), (NOVEMBER, (THIRD, "2.5", 1, "0.50"))]
    assert enter(spark, DECEMBER, closed, (THIRD, "8", 4, "1.60")) == [
        (DECEMBER, Decimal("0.5"), 1, Decimal("0.10"), False)
    ]


def test_a_line_of_the_open_month_itself_is_counted_anew(spark: SparkSession) -> None:
    """What the open month has of an earlier count is replaced, so it is not taken off."""
    entered = [(OCTOBER, (THIRD, "5", 2, "1.00")), (NOVEMBER, (THIRD, "2", 1, "0.40"))]
    assert enter(spark, NOVEMBER, entered, (THIRD, "8", 4, "1.60")) == [
        (NOVEMBER, 3, 2, Decimal("0.60"), False)
    ]


def test_when_nothing_is_left_to_enter_the_line_is_gone(spark: SparkSession) -> None:
    closed = [(OCTOBER, (THIRD, "5", 2, "1.00"))]
    assert [row[-1] for row in enter(spark, NOVEMBER, closed, (THIRD, "5", 2, "1.00"))] == [True]
    day = date(2025, 11, 7)
    assert [row[-1] for row in enter(spark, NOVEMBER, closed, (day, "1", 1, "1.00"), gone=True)] == [True]


def test_one_more_event_that_costs_nothing_is_entered_all_the_same(spark: SparkSession) -> None:
    closed = [(OCTOBER, (THIRD, "5", 2, "1.00"))]
    assert enter(spark, NOVEMBER, closed, (THIRD, "5", 3, "1.00")) == [(NOVEMBER, 0, 1, 0, False)]
