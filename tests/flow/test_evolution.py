"""A contract changes: fields that are new, gone or wider, and events of both versions in one batch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from headwater.errors import SetupError
from headwater.settings import Settings
from headwater.tables import append_once, append_rows, ensure_table, read_table
from jobs.migrate import _evolve
from jobs.queries import Context
from schemas.contract import Contract, Field, contracts
from schemas.tables import SILVER, TOOL_INVOCATIONS, Table
from tests.builders import ARRIVED, arrow_bronze, arrow_schema
from tests.conftest import settings_at
from transformations.classify import Classifier, outcome_columns, silver_table

STREAM = "agent.tool.invoked"
OLD: Contract = contracts()[STREAM]
SAID = {
    "event_id": "1", "account_id": "acme", "tool_name": "search", "status": "ok", "duration_ms": 1.5,
    "ts_ms": int(ARRIVED.timestamp() * 1000),
}  # fmt: skip
REGION = Field(("region",), "string", False, 50, None, None, False, "Where the tool ran.")
# The next version: `region` is new, `duration_ms` is gone, and a tool may be skipped.
NEW = replace(
    OLD,
    version="2.0.0",
    fields=tuple(
        replace(field, values=(*field.values, "skipped")) if field.name == "status" else field
        for field in (*OLD.fields, REGION)
        if field.name != "duration_ms"
    ),
)
WIDER = replace(TOOL_INVOCATIONS, columns="region STRING, " + TOOL_INVOCATIONS.columns)


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return settings_at(tmp_path)


def silver(contract: Contract, *events: dict[str, Any], first: int = 0) -> pa.Table:
    work = Classifier((contract,), None, arrow_schema(outcome_columns([contract], ["refined_at"])))
    raw: list[bytes | None] = [json.dumps(event).encode() for event in events]
    outcomes = pa.Table.from_batches(work([arrow_bronze(raw, contract.topic, first)]), work.schema)
    assert set(outcomes["outcome"].to_pylist()) == {"silver"}
    return silver_table(contract, outcomes)


def rows(spark: SparkSession, lake: Settings, *names: str) -> list[tuple[Any, ...]]:
    found = read_table(spark, lake, TOOL_INVOCATIONS.full_name).orderBy("event_id").select(*names)
    return [tuple(row) for row in found.collect()]


def test_events_of_two_versions_of_a_contract_share_a_batch_and_a_table(
    spark: SparkSession, lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_table(spark, lake, TOOL_INVOCATIONS)
    old = SAID
    new = {**SAID, "event_id": "2", "status": "skipped", "region": "eu"}
    del new["duration_ms"]
    append_rows(spark, silver(OLD, old), lake, TOOL_INVOCATIONS.full_name)
    monkeypatch.setitem(SILVER, STREAM, WIDER)
    context = Context(spark, lake, "test")
    assert _evolve(context, WIDER) == ["table silver.tool_invocations: column region added"]
    assert _evolve(context, WIDER) == []
    both = silver(NEW, {**old, "event_id": "3"}, new, first=10)
    append_rows(spark, both, lake, TOOL_INVOCATIONS.full_name)
    by_spark = spark.createDataFrame(silver(NEW, {**new, "event_id": "4"}, first=20))
    append_once(by_spark, lake, TOOL_INVOCATIONS.full_name, "query", 0)
    assert rows(spark, lake, "event_id", "status", "duration_ms", "region", "extras") == [
        ("1", "ok", 1.5, None, None),
        ("2", "skipped", None, "eu", None),
        ("3", "ok", None, None, '{"/duration_ms":1.5}'),
        ("4", "skipped", None, "eu", None),
    ]


def test_before_the_contract_knows_a_field_it_is_kept_aside(spark: SparkSession, lake: Settings) -> None:
    (found,) = silver(OLD, {**SAID, "region": "eu"}).to_pylist()
    assert json.loads(found["extras"]) == {"/region": "eu"}


def test_a_column_of_another_type_is_refused_with_its_name(spark: SparkSession, lake: Settings) -> None:
    ensure_table(spark, lake, TOOL_INVOCATIONS)
    other: Table = replace(
        TOOL_INVOCATIONS, columns=TOOL_INVOCATIONS.columns.replace("ts_ms BIGINT", "ts_ms INT")
    )
    with pytest.raises(SetupError, match=r"ts_ms \(bigint, declared int\)"):
        _evolve(Context(spark, lake, "test"), other)
