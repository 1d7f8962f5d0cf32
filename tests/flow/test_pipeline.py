"""silver.crm_opportunities → what each opportunity is like now, and what all came to on each day."""

import random
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb
from pyspark.sql import SparkSession

from schemas.tables import CRM_OPPORTUNITIES
from tests.flow.crm_rows import NOON, rows_of
from transformations.pipeline import pipeline, pipeline_daily

DAY = timedelta(days=1)
Row = dict[str, Any]


def deal(day: int, event: str, stage: str, amount: str | None = "100.05", **said: Any) -> Row:
    """An event of an opportunity, so many days after noon of the first of March."""
    value = Decimal(amount) if amount else None
    named = {"event_time": NOON + day * DAY, "event_type": f"opportunity.{event}", "stage": stage}
    return {**named, "opportunity_id": "o1", "amount": value, "currency": "EUR", "probability": 50, **said}


HUNDRED, HALF = Decimal("100.05"), Decimal("50.02")


# Each case is a tenant of its own.
CASES: list[tuple[list[Row], tuple[Any, ...]]] = [
    # Half of 100.05 is 50.025: half even.
    ([deal(0, "created", "new")], ("new", "open", HUNDRED, HALF, None)),
    ([deal(0, "created", "new", None)], ("new", "open", None, None, None)),
    ([deal(0, "created", "new", probability=None)], ("new", "open", HUNDRED, None, None)),
    # Came in the wrong order, and one of them twice.
    (
        [
            deal(2, "won", "done"),
            deal(0, "created", "new"),
            deal(1, "updated", "offer"),
            deal(2, "won", "done"),
        ],
        ("done", "won", HUNDRED, HUNDRED, NOON + 2 * DAY),
    ),
    (
        [deal(0, "created", "new"), deal(1, "lost", "done")],
        ("done", "lost", HUNDRED, Decimal("0.00"), NOON + DAY),
    ),
    # What changes later and leaves the stage leaves it closed; another stage opens it again.
    (
        [deal(0, "won", "done"), deal(1, "updated", "done", "7.00")],
        ("done", "won", Decimal("7.00"), Decimal("7.00"), NOON),
    ),
    ([deal(0, "won", "done"), deal(1, "updated", "offer")], ("offer", "open", HUNDRED, HALF, None)),
    (
        [deal(0, "won", "done"), deal(1, "updated", "offer"), deal(2, "lost", "gone")],
        ("gone", "lost", HUNDRED, Decimal("0.00"), NOON + 2 * DAY),
    ),
]


def test_an_opportunity_is_what_its_newest_event_says(spark: SparkSession) -> None:
    events = [{"tenant_id": str(n), **event} for n, (mine, _) in enumerate(CASES) for event in mine]
    rows = pipeline(rows_of(spark, CRM_OPPORTUNITIES, events)).toArrow().to_pylist()
    found = {
        int(row["tenant_id"]): tuple(row[n] for n in ("stage", "status", "amount", "weighted", "closed_at"))
        for row in rows
    }
    assert found == {number: expected for number, (_, expected) in enumerate(CASES)}


def test_the_pipeline_of_a_day_is_what_it_was_at_its_end(spark: SparkSession) -> None:
    events = [
        deal(0, "created", "new"),
        deal(0, "created", "new", "10.00", opportunity_id="o2"),
        deal(2, "updated", "offer", "200.00"),
        deal(5, "won", "done", "200.00"),
        deal(5, "updated", "new", "20.00", opportunity_id="o2"),
    ]
    rows = pipeline_daily(rows_of(spark, CRM_OPPORTUNITIES, events)).orderBy("day", "stage").collect()
    found = [(r["day"], r["stage"], r["status"], r["opportunities"], str(r["amount"])) for r in rows]
    assert found == [
        (date(2026, 3, 1), "new", "open", 2, "110.05"),
        (date(2026, 3, 3), "new", "open", 1, "10.00"),
        (date(2026, 3, 3), "offer", "open", 1, "200.00"),
        (date(2026, 3, 6), "done", "won", 1, "200.00"),
        (date(2026, 3, 6), "new", "open", 1, "20.00"),
        (date(2026, 3, 6), "offer", "open", 0, "0.00"),
    ]


# What an opportunity was at the end of a day is its newest event until then; what all came to is their sum.
ORACLE = """
WITH days AS (SELECT DISTINCT tenant_id, event_time::date AS day FROM events),
ends AS (
  SELECT d.tenant_id, d.day, e.opportunity_id, e.currency, e.stage, e.amount
  FROM days d JOIN events e ON e.tenant_id = d.tenant_id AND e.event_time::date <= d.day
  QUALIFY row_number() OVER (
    PARTITION BY d.tenant_id, d.day, e.opportunity_id ORDER BY e.row_version DESC) = 1)
SELECT tenant_id, day, currency, stage, count(*), sum(amount) FROM ends GROUP BY ALL
"""
AT = """
SELECT d.tenant_id, d.day, g.currency, g.stage, g.opportunities, g.amount
FROM (SELECT DISTINCT tenant_id, day FROM gold) d JOIN gold g ON g.tenant_id = d.tenant_id AND g.day <= d.day
QUALIFY row_number() OVER (PARTITION BY d.tenant_id, d.day, g.currency, g.stage ORDER BY g.day DESC) = 1
"""


def test_on_every_day_the_newest_row_of_each_group_is_what_sql_over_silver_finds(spark: SparkSession) -> None:
    rng = random.Random(5)  # noqa: S311 - sample data
    events = [
        deal(
            rng.randrange(20),
            "updated",
            rng.choice(("new", "offer", "talks")),
            f"{rng.randrange(1000)}.{rng.randrange(100):02d}",
            opportunity_id=f"o{rng.randrange(25)}",
            currency=rng.choice(("EUR", "USD")),
            tenant_id=rng.choice(("acme", "globex")),
        )
        for _ in range(300)
    ]
    silver = rows_of(spark, CRM_OPPORTUNITIES, events)
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("events", silver.toArrow())
        database.register("gold", pipeline_daily(silver).toArrow())
        expected = set(database.execute(ORACLE).fetchall())
        found = {row for row in database.execute(AT).fetchall() if row[4]}
    assert len(expected) > 100
    assert found == expected
