"""build.crm: the gold of the CRM is what silver says, whatever came late, twice or out of order."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable as RustTable
from pyspark.sql import SparkSession

from headwater.settings import Settings
from headwater.tables import append_rows, ensure_table, read_table, table_path
from jobs import build_crm
from jobs.build_crm import KEYS, SOURCES, BuildCrm
from jobs.queries import Context
from jobs.runtime import Runtime
from schemas.gold import CRM_PIPELINE, CRM_PIPELINE_DAILY, LEAD_JOURNEY
from schemas.tables import CRM_CONTACTS, CRM_LEADS, CRM_OPPORTUNITIES, LEADS, Table
from tests.conftest import settings_at
from tests.flow.crm_rows import NOON, rows_of
from tests.flow.journey_set import labelled
from transformations.journey import funnel, journeys
from transformations.pipeline import pipeline, pipeline_daily


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Settings]:
    yield settings_at(tmp_path)
    shutil.rmtree(tmp_path)


def append(spark: SparkSession, lake: Settings, table: Table, rows: list[dict[str, Any]]) -> None:
    ensure_table(spark, lake, table)
    append_rows(spark, rows_of(spark, table, rows).toArrow(), lake, table.full_name)


def run(spark: SparkSession, lake: Settings, *, from_start: bool = False) -> int:
    """How many rows of gold were replaced."""
    context = Context(spark, lake, "test", from_start=from_start)
    Runtime(context, once=True).run([BuildCrm(context)])
    return context.totals.rows_out


def said(table: Table) -> list[str]:
    return [name for name in table.names if name != "row_version"]


def gold(lake: Settings, table: Table) -> list[tuple[Any, ...]]:
    rows = RustTable(table_path(lake, table.full_name)).to_pyarrow_table(columns=said(table)).to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=repr)


def expected(spark: SparkSession, lake: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """Of all silver at once."""
    silver = [read_table(spark, lake, table.full_name) for table in SOURCES]
    journey = journeys(*silver)
    made = (pipeline(silver[-1]), pipeline_daily(silver[-1]), journey, funnel(journey))
    return {
        table.name: sorted(
            (tuple(row.values()) for row in rows.select(said(table)).toArrow().to_pylist()), key=repr
        )
        for table, rows in zip(KEYS, made, strict=True)
    }


# The second batch has what happened before the first one, too.
HALVES = (slice(1, None, 2), slice(0, None, 2))


@pytest.mark.parametrize(
    ("few", "parts"),
    [(build_crm.FEW_ROWS, HALVES), (0, HALVES[:1])],
    ids=["on the driver", "by Spark"],
)
def test_gold_is_what_all_of_silver_says_batch_by_batch(
    spark: SparkSession, lake: Settings, few: int, parts: tuple[slice, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_crm, "FEW_ROWS", few)
    made = labelled(people=40, seed=3, days=9)
    by_table = {LEADS: made.leads, CRM_LEADS: made.crm_leads, CRM_CONTACTS: made.contacts}
    by_table[CRM_OPPORTUNITIES] = made.deals
    for part in parts:
        for table, rows in by_table.items():
            append(spark, lake, table, rows[part])
        assert run(spark, lake)
    wanted = expected(spark, lake)
    assert {table.name: gold(lake, table) for table in KEYS} == wanted
    assert all(wanted.values())


def test_a_late_event_moves_a_row_to_its_day_and_touches_no_other_tenant_and_a_rebuild_touches_nothing(
    spark: SparkSession, lake: Settings
) -> None:
    first = {
        "opportunity_id": "o",
        "amount": Decimal("10.00"),
        "currency": "EUR",
        "event_type": "opportunity.won",
    }
    deals = [{**first, "stage": "done", "tenant_id": tenant} for tenant in ("acme", "globex")]
    append(spark, lake, CRM_OPPORTUNITIES, deals)
    for table in (LEADS, CRM_LEADS, CRM_CONTACTS):
        ensure_table(spark, lake, table)
    assert run(spark, lake) == 4
    earlier = {**deals[0], "event_time": NOON - timedelta(days=3), "event_type": "opportunity.created"}
    append(spark, lake, CRM_OPPORTUNITIES, [{**earlier, "stage": "new"}])
    # The opportunity is of another day now; two days have a row of the pipeline that is new, and one changes.
    run(spark, lake)
    rows = RustTable(table_path(lake, CRM_PIPELINE.full_name)).to_pyarrow_table().to_pylist()
    assert sorted((row["tenant_id"], row["opened_at"].day, row["status"]) for row in rows) == [
        ("acme", 26, "won"),
        ("globex", 1, "won"),
    ]
    daily = RustTable(table_path(lake, CRM_PIPELINE_DAILY.full_name)).to_pyarrow_table().to_pylist()
    assert sorted((r["tenant_id"], r["day"].day, r["stage"], r["opportunities"]) for r in daily) == [
        ("acme", 1, "done", 1),
        ("acme", 1, "new", 0),
        ("acme", 26, "new", 1),
        ("globex", 1, "done", 1),
    ]
    assert gold(lake, LEAD_JOURNEY) == []
    assert run(spark, lake, from_start=True) == 0
