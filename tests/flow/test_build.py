"""Gold against SQL over silver's files: after disorder, duplicates, late rows, a repeat and a rebuild."""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from delta.tables import DeltaTable
from deltalake import DeltaTable as RustTable
from pyspark.sql import SparkSession

from headwater.settings import Settings
from headwater.tables import append_rows, ensure_table, table_path
from jobs import build, recount
from jobs.build import Build, silver_of
from jobs.queries import Context
from jobs.runtime import Runtime
from local.traffic import Kind, Mix
from local.traffic_interactions import interactions
from schemas.contract import domain_contracts
from schemas.tables import SILVER
from tests.builders import arrow_bronze, arrow_schema
from tests.conftest import settings_at
from tests.flow.oracle import ORACLES, Rows, columns, counted, keyed
from transformations.classify import Classifier, outcome_columns, silver_table
from transformations.kpi.registry import KPIS

CONTRACTS = {c.topic: c for c in domain_contracts("interactions").values()}
WORK = Classifier(
    tuple(CONTRACTS.values()), None, arrow_schema(outcome_columns(tuple(CONTRACTS.values()), ["refined_at"]))
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FED = sorted(build.BUILT)


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Settings]:
    yield settings_at(tmp_path)
    shutil.rmtree(tmp_path)


def batches(count: int, size: int) -> list[dict[str, pa.Table]]:
    """Batches of silver by table: hours of traffic in disorder, some of it a second time."""
    rng = random.Random(7)  # noqa: S311 - sample data
    times = iter(NOON - timedelta(minutes=rng.randrange(3000)) for _ in range(10 * count * size))
    events = [
        event
        for event in interactions(
            count * size, run="b-", seed=3, mix=Mix(broken=0, no_consent=0), clock=lambda: next(times)
        )
        if event.kind is Kind.VALID
    ]
    rng.shuffle(events)
    made = []
    for number in range(count):
        mine = events[number::count]
        again = rng.sample(events[(number - 1) % count :: count], 20) if number else []
        made.append(_silver([(e.topic, e.body) for e in [*mine, *again]], number))
    return made


def _silver(events: Sequence[tuple[str, bytes]], number: int) -> dict[str, pa.Table]:
    found: dict[str, pa.Table] = {}
    for topic, contract in CONTRACTS.items():
        values = [body for at, body in events if at == topic]
        outcomes = pa.Table.from_batches(
            WORK([arrow_bronze(values, topic, first=number * 10_000)]), WORK.schema
        )
        found[SILVER[contract.stream].name] = silver_table(contract, outcomes)
    return found


def append(spark: SparkSession, settings: Settings, tables: dict[str, pa.Table]) -> None:
    for name, rows in tables.items():
        (table,) = [table for table in SILVER.values() if table.name == name]
        ensure_table(spark, settings, table)
        append_rows(spark, rows, settings, table.full_name)


def run(spark: SparkSession, settings: Settings, *names: str, from_start: bool = False) -> Context:
    context = Context(spark, settings, "test", from_start=from_start)
    Runtime(context, once=True).run([Build(context, name) for name in names])
    return context


def gold(settings: Settings, name: str) -> Rows:
    rows = RustTable(table_path(settings, f"gold.{name}")).to_pyarrow_table(columns=columns(name))
    return keyed(name, rows.to_pylist())


def expected(settings: Settings, name: str) -> Rows:
    path = table_path(settings, f"silver.{ORACLES[name][0]}")
    return counted(name, [Path(file.removeprefix("file://")) for file in RustTable(path).file_uris()])


def versions(settings: Settings, name: str) -> dict[tuple[Any, ...], int]:
    key = list(KPIS[name].key)
    table = RustTable(table_path(settings, f"gold.{name}"))
    rows = table.to_pyarrow_table(columns=[*key, "row_version"]).to_pylist()
    return {tuple(row[part] for part in key): row["row_version"] for row in rows}


@pytest.mark.parametrize("few", [recount.FEW_KEYS, 0], ids=["on the driver", "by Spark"])
def test_gold_is_what_sql_over_silver_finds_whatever_came_late_twice_or_out_of_order(
    spark: SparkSession, lake: Settings, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FEW_KEYS", few)
    for part in batches(3 if few else 2, 500):
        append(spark, lake, part)
        run(spark, lake, *FED)
        for name in ORACLES:
            assert gold(lake, name) == expected(lake, name), name


def test_a_batch_that_is_done_again_changes_no_number_and_versions_only_grow(
    spark: SparkSession, lake: Settings
) -> None:
    first, second = batches(2, 300)
    append(spark, lake, first)
    run(spark, lake, "usage")
    before = versions(lake, "billing_usage")
    append(spark, lake, second)
    shutil.copytree(Path(lake.lake_root) / "_checkpoints", Path(lake.lake_root) / "kept")
    run(spark, lake, "usage")
    once, after = gold(lake, "billing_usage"), versions(lake, "billing_usage")
    shutil.rmtree(Path(lake.lake_root) / "_checkpoints")
    (Path(lake.lake_root) / "kept").rename(Path(lake.lake_root) / "_checkpoints")
    run(spark, lake, "usage")
    assert gold(lake, "billing_usage") == once == expected(lake, "billing_usage")
    again = versions(lake, "billing_usage")
    touched = [key for key in before if after[key] != before[key]]
    assert touched
    assert all(after[key] > before[key] for key in touched)
    assert all(again[key] > after[key] for key in touched)


def test_a_rebuild_takes_away_what_silver_has_no_more(spark: SparkSession, lake: Settings) -> None:
    (rows,) = batches(1, 600)
    append(spark, lake, rows)
    run(spark, lake, "agent_turns")
    everyone = gold(lake, "session_kpis")
    gone = sorted(session for tenant, session in everyone if tenant == "acme")
    DeltaTable.forPath(spark, table_path(lake, "silver.agent_turns")).delete("tenant_id = 'acme'")
    run(spark, lake, "agent_turns", from_start=True)
    assert gone
    left = gold(lake, "session_kpis")
    assert left == expected(lake, "session_kpis")
    assert left.keys() == {key for key in everyone if key[0] != "acme"}


def test_a_late_turn_moves_the_start_of_a_session_to_another_day(spark: SparkSession, lake: Settings) -> None:
    topic = "text.agent.turn.completed"

    def turn(number: int, at: datetime) -> tuple[str, bytes]:
        when = int(at.timestamp() * 1000)
        said = {"account_id": "acme", "session_id": "s", "turn_id": f"t{number}", "tokens_in": number}
        return topic, json.dumps({**said, "ts_ms": when}).encode()

    for number, at in enumerate([NOON, NOON - timedelta(days=3), NOON - timedelta(days=1)]):
        append(spark, lake, _silver([turn(number, at)], number))
        run(spark, lake, "agent_turns")
        assert gold(lake, "session_kpis") == expected(lake, "session_kpis")
    (session,) = gold(lake, "session_kpis").values()
    assert (session["turns"], session["tokens_in"]) == (3, 3)


@pytest.mark.parametrize("name", FED)
def test_gold_that_is_delivered_is_counted_before_gold_that_stays_in_the_lake(
    spark: SparkSession, lake: Settings, name: str
) -> None:
    made = Build(Context(spark, lake, "test"), name)
    by_source: dict[str, list[str]] = {}
    for kpi in made.kpis:
        by_source.setdefault(kpi.source.name, []).append(kpi.gold.full_name)
    for tables in by_source.values():
        stays = [table not in made.writes for table in tables]
        assert stays == sorted(stays)


def test_a_gold_table_names_the_query_that_builds_it() -> None:
    assert {name: silver_of(name) for name in KPIS} == {
        "session_kpis": "agent_turns",
        "usage_hourly": "usage",
        "billing_usage": "usage",
        "billing_daily": "usage",
        "frontend_hourly": "frontend_interactions",
        "widget_hourly": "widget_performance",
        "tool_hourly": "tool_invocations",
    }
