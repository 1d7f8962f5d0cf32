"""A contract changes: fields that are new, gone or wider, and events of both versions in one batch."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from headwater.errors import SetupError
from headwater.settings import Settings
from headwater.tables import append_once, append_rows, ensure_table, read_table, set_property, stream_table
from jobs.migrate import _evolve
from jobs.queries import Context
from schemas.contract import Contract, Field, contracts
from schemas.gold import BILLING_USAGE
from schemas.tables import AGENT_TURNS, SILVER, TOOL_INVOCATIONS, USAGE, Table, bronze
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


def declared(table: Table, old: str, new: str) -> Table:
    """The table of another version of the code."""
    assert old in table.columns
    return replace(table, columns=table.columns.replace(old, new))


TURNS = "text.agent.turn.completed"
TURN = {
    "account_id": "acme", "session_id": "s", "turn_id": "t", "event_id": "1", "tokens_in": 7,
    "ts_ms": int(ARRIVED.timestamp() * 1000),
}  # fmt: skip
MANY = 3_000_000_000  # more than an INT holds
MANY_TOKENS = replace(
    contracts()[TURNS],
    version="2.0.0",
    fields=tuple(
        replace(field, maximum=Decimal(10**12)) if field.name == "tokens_in" else field
        for field in contracts()[TURNS].fields
    ),
)
WIDER_TURNS = declared(AGENT_TURNS, "tokens_in INT", "tokens_in BIGINT")


class Reader:
    """A query on a table, which goes on from where it was."""

    def __init__(self, spark: SparkSession, lake: Settings, table: Table, name: str) -> None:
        self.spark, self.lake, self.table = spark, lake, table
        self.place = f"{lake.lake_root}/_checkpoints/{name}"
        self.seen: list[tuple[Any, ...]] = []

    def run(self, batches: int | None = None, *columns: str) -> None:
        """Read on, a file a batch: that many batches, or all there is."""
        done: list[int] = []

        def take(batch: DataFrame, batch_id: int) -> None:
            if batches is not None and len(done) == batches:
                raise InterruptedError
            self.seen += [tuple(row) for row in batch.select(*columns).collect()]
            done.append(batch_id)

        rows = stream_table(self.spark, self.lake, self.table.full_name, files=1)
        writer = rows.writeStream.foreachBatch(take).option("checkpointLocation", self.place)
        query = writer.trigger(availableNow=True).start()
        try:
            query.awaitTermination()
        except Exception:
            if batches is None:
                raise
        finally:
            query.stop()


def turn(contract: Contract, number: int, **said: Any) -> pa.Table:
    work = Classifier((contract,), None, arrow_schema(outcome_columns([contract], ["refined_at"])))
    raw: list[bytes | None] = [json.dumps({**TURN, "event_id": str(number), **said}).encode()]
    outcomes = pa.Table.from_batches(work([arrow_bronze(raw, contract.topic, number)]), work.schema)
    return silver_table(contract, outcomes)


def test_a_column_gets_a_wider_type_and_every_stream_reads_on_where_it_was(
    spark: SparkSession, lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    narrow, name = contracts()[TURNS], AGENT_TURNS.full_name
    readers = {w: Reader(spark, lake, AGENT_TURNS, w) for w in ("begun", "behind", "at the end", "new")}
    append_rows(spark, turn(narrow, 1), lake, name)
    append_once(spark.createDataFrame(turn(narrow, 2)), lake, name, "query", 0)
    readers["begun"].run(1, "event_id", "tokens_in")  # of two files that were there when it began
    readers["behind"].run(2, "event_id", "tokens_in")
    for number in (3, 4):
        append_rows(spark, turn(narrow, number), lake, name)
    readers["behind"].run(1, "event_id", "tokens_in")
    readers["at the end"].run(None, "event_id", "tokens_in")
    assert {w: len(reader.seen) for w, reader in readers.items()} == {
        "begun": 1, "behind": 3, "at the end": 4, "new": 0,
    }  # fmt: skip

    context = Context(spark, lake, "test")
    assert _evolve(context, WIDER_TURNS) == [
        "table silver.agent_turns: column tokens_in (int, declared bigint) widened"
    ]
    assert _evolve(context, WIDER_TURNS) == []
    monkeypatch.setitem(SILVER, TURNS, WIDER_TURNS)
    ensure_table(spark, lake, WIDER_TURNS)
    assert append_once(spark.createDataFrame(turn(narrow, 2)), lake, name, "query", 0) is None  # was
    append_rows(spark, turn(narrow, 5), lake, name)  # of a producer that still has the old version
    append_once(spark.createDataFrame(turn(MANY_TOKENS, 6, tokens_in=MANY)), lake, name, "query", 1)

    every = [(str(number), 7) for number in range(1, 6)] + [("6", MANY)]
    for which, reader in readers.items():
        reader.run(None, "event_id", "tokens_in")
        assert sorted(reader.seen) == every, which
    kept = read_table(spark, lake, name).orderBy("event_id").select("event_id", "tokens_in")
    assert [tuple(row) for row in kept.collect()] == every


def test_code_of_the_other_version_refuses_a_table_whose_type_it_does_not_declare(
    spark: SparkSession, lake: Settings
) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    with pytest.raises(SetupError, match=r"silver\.agent_turns has tokens_in as int: another type"):
        ensure_table(spark, lake, WIDER_TURNS)


def test_a_stream_that_has_columns_to_come_first_keeps_a_table_from_being_widened(
    spark: SparkSession, lake: Settings
) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    name, reader = AGENT_TURNS.full_name, Reader(spark, lake, AGENT_TURNS, "deliver")
    append_rows(spark, turn(contracts()[TURNS], 1), lake, name)
    reader.run(None, "event_id")
    set_property(spark, lake, name, "headwater.seen", "yes")  # as the columns, a part of what the table is
    context = Context(spark, lake, "test")
    with pytest.raises(SetupError, match="deliver has not read so far"):
        _evolve(context, WIDER_TURNS)
    append_rows(spark, turn(contracts()[TURNS], 2), lake, name)
    append_rows(spark, turn(contracts()[TURNS], 3), lake, name)
    reader.run(None, "event_id")
    assert len(_evolve(context, WIDER_TURNS)) == 1
    append_once(spark.createDataFrame(turn(MANY_TOKENS, 4)), lake, name, "query", 1)
    reader.run(None, "event_id")
    assert sorted(reader.seen) == [("1",), ("2",), ("3",), ("4",)]


@pytest.mark.parametrize(
    ("table", "old", "new", "told"),
    [
        (TOOL_INVOCATIONS, "ts_ms BIGINT", "ts_ms INT", r"ts_ms \(bigint, declared int\)"),
        (TOOL_INVOCATIONS, "status STRING", "status INT", r"status \(string, declared int\)"),
        (USAGE, "DECIMAL(20,6)", "DECIMAL(20,7)", r"quantity \(decimal\(20,6\), declared decimal\(20,7\)\)"),
        (BILLING_USAGE, "DECIMAL(30,6)", "DECIMAL(31,6)", "quantity"),  # whose changes are delivered
        (bronze("leads"), "partition INT", "partition BIGINT", "partition"),  # whose files are counted on
    ],
)
def test_a_type_that_is_not_wider_is_refused_with_its_column(
    spark: SparkSession, lake: Settings, table: Table, old: str, new: str, told: str
) -> None:
    ensure_table(spark, lake, table)
    with pytest.raises(SetupError, match=told):
        _evolve(Context(spark, lake, "test"), declared(table, old, new))
