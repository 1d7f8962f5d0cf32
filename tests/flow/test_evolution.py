"""A contract changes: fields that are new, gone or wider, and events of both versions in one batch."""

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from headwater import delta_log
from headwater.delta_history import last_append
from headwater.errors import LockedError, SetupError
from headwater.locks import instance_lock
from headwater.settings import Settings
from headwater.tables import (
    append_once,
    append_rows,
    ensure_table,
    read_table,
    set_property,
    stream_table,
    table_path,
)
from jobs.evolve import evolve
from jobs.queries import Context
from schemas.contract import Contract, Field, contracts
from schemas.gold import BILLING_USAGE
from schemas.tables import AGENT_TURNS, LEDGER, SILVER, TOOL_INVOCATIONS, USAGE, Table, bronze
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
    assert evolve(context, [WIDER]) == ["table silver.tool_invocations: column region added"]
    assert evolve(context, [WIDER]) == []
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


TURNS, METERED = "text.agent.turn.completed", "billing.usage.metered"
MOMENT = int(ARRIVED.timestamp() * 1000)
MANY = 3_000_000_000  # more than an INT holds
VAST = Decimal("123456789012345678.123456")  # more than DECIMAL(20,6) holds


def allowing(stream: str, name: str, maximum: Decimal) -> Contract:
    """The next version of a contract: a field may be larger."""
    contract = contracts()[stream]
    fields = [replace(f, maximum=maximum) if f.name == name else f for f in contract.fields]
    return replace(contract, version="2.0.0", fields=tuple(fields))


def turn(number: int, tokens: int = 7) -> dict[str, Any]:
    return {
        "account_id": "acme", "session_id": "s", "turn_id": "t", "event_id": str(number), "ts_ms": MOMENT,
        "tokens_in": tokens,
    }  # fmt: skip


def use(number: int, quantity: str = "7.5") -> dict[str, Any]:
    return {
        "account_id": "acme", "metric": "api_calls", "unit": "call", "event_id": str(number),
        "ts_ms": MOMENT, "quantity": float(quantity),
    }  # fmt: skip


WIDER_TURNS = declared(AGENT_TURNS, "tokens_in INT", "tokens_in BIGINT")
WIDER_USAGE = declared(USAGE, "DECIMAL(20,6)", "DECIMAL(24,6)")


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


def test_a_column_gets_a_wider_type_and_every_stream_reads_on_where_it_was(
    spark: SparkSession, lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    narrow, name = contracts()[TURNS], AGENT_TURNS.full_name
    set_property(spark, lake, name, "headwater.seen", "yes")
    readers = {w: Reader(spark, lake, AGENT_TURNS, w) for w in ("begun", "behind", "at the end", "new")}
    append_rows(spark, silver(narrow, turn(1)), lake, name)
    append_once(spark.createDataFrame(silver(narrow, turn(2))), lake, name, "query", 0)
    readers["begun"].run(1, "event_id", "tokens_in")  # of two files that were there when it began
    readers["behind"].run(2, "event_id", "tokens_in")
    for number in (3, 4):
        append_rows(spark, silver(narrow, turn(number)), lake, name)
    readers["behind"].run(1, "event_id", "tokens_in")
    readers["at the end"].run(None, "event_id", "tokens_in")
    assert {w: len(reader.seen) for w, reader in readers.items()} == {
        "begun": 1, "behind": 3, "at the end": 4, "new": 0,
    }  # fmt: skip

    context = Context(spark, lake, "test")
    assert evolve(context, [TOOL_INVOCATIONS, WIDER_TURNS]) == [
        "table silver.agent_turns: column tokens_in (int, declared bigint) widened",
        "table silver.tool_invocations created",
    ]
    assert evolve(context, [TOOL_INVOCATIONS, WIDER_TURNS]) == []
    ensure_table(spark, lake, WIDER_TURNS)
    path = table_path(lake, name)
    assert delta_log.properties(path)["headwater.seen"] == "yes"
    assert last_append(path) == 5  # not the writing anew

    monkeypatch.setitem(SILVER, TURNS, WIDER_TURNS)
    append_once(spark.createDataFrame(silver(narrow, turn(2))), lake, name, "query", 0)  # was done before
    append_rows(spark, silver(narrow, turn(5)), lake, name)  # of a producer that has the old version
    larger = silver(allowing(TURNS, "tokens_in", Decimal(10**12)), turn(6, MANY))
    append_once(spark.createDataFrame(larger), lake, name, "query", 1)

    every = [(str(number), 7) for number in range(1, 6)] + [("6", MANY)]
    for which, reader in readers.items():
        reader.run(None, "event_id", "tokens_in")
        assert sorted(reader.seen) == every, which
    kept = read_table(spark, lake, name).orderBy("event_id").select("event_id", "tokens_in")
    assert [tuple(row) for row in kept.collect()] == every


def test_a_decimal_gets_more_places_before_its_point_in_a_table_and_in_what_is_left_to_read(
    spark: SparkSession, lake: Settings
) -> None:
    ensure_table(spark, lake, USAGE)
    name, reader = USAGE.full_name, Reader(spark, lake, USAGE, "build")
    for number in (1, 2):
        append_rows(spark, silver(contracts()[METERED], use(number)), lake, name)
    reader.run(1, "event_id", "quantity")
    assert len(evolve(Context(spark, lake, "test"), [WIDER_USAGE])) == 1
    rows = silver(contracts()[METERED], use(3))
    at = rows.column_names.index("quantity")
    vast = pa.array([VAST], pa.decimal128(24, 6))
    append_rows(spark, rows.set_column(at, "quantity", vast), lake, name)
    reader.run(None, "event_id", "quantity")
    assert sorted(reader.seen) == [("1", Decimal("7.5")), ("2", Decimal("7.5")), ("3", VAST)]


def test_code_of_the_other_version_refuses_a_table_whose_type_it_does_not_declare(
    spark: SparkSession, lake: Settings
) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    with pytest.raises(SetupError, match=r"silver\.agent_turns has tokens_in as int: another type"):
        ensure_table(spark, lake, WIDER_TURNS)


def test_a_stream_reads_past_an_earlier_change_first_also_where_no_row_comes_any_more(
    spark: SparkSession, lake: Settings
) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    name, reader = AGENT_TURNS.full_name, Reader(spark, lake, AGENT_TURNS, "deliver.interactions.postgres")
    append_rows(spark, silver(contracts()[TURNS], turn(1)), lake, name)
    reader.run(None, "event_id")
    set_property(spark, lake, name, "headwater.seen", "yes")  # as an added column, a part of what it is
    context = Context(spark, lake, "test")
    ensure_table(spark, lake, USAGE)
    for _ in range(2):
        with pytest.raises(SetupError, match=r"silver\.agent_turns: deliver\.interactions\.postgres\)"):
            evolve(context, [WIDER_USAGE, WIDER_TURNS])
        reader.run(None, "event_id")
    ensure_table(spark, lake, USAGE)  # as long as one is refused, none is changed
    with_region = declared(WIDER_TURNS, "event_id STRING", "region STRING, event_id STRING")
    assert evolve(context, [WIDER_USAGE, with_region]) == [
        "table silver.usage: column quantity (decimal(20,6), declared decimal(24,6)) widened",
        "table silver.agent_turns: column tokens_in (int, declared bigint) widened",
        "table silver.agent_turns: column region added",
    ]
    new = silver(contracts()[TURNS], turn(2))
    append_rows(spark, new.append_column("region", pa.array(["eu"])), lake, name)
    reader.run(None, "event_id")
    assert sorted(reader.seen) == [("1",), ("2",)]


def test_a_checkpoint_that_is_damaged_is_named(spark: SparkSession, lake: Settings) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    offsets = Path(lake.lake_root, "_checkpoints", "deliver.gone", "offsets")
    offsets.mkdir(parents=True)
    (offsets / "0").write_text("v1\n{}\n{")
    with pytest.raises(SetupError, match=r"the checkpoint .*deliver\.gone cannot be read"):
        evolve(Context(spark, lake, "test"), [WIDER_TURNS])


def test_while_refine_runs_no_table_of_its_domain_is_written_anew(
    spark: SparkSession, lake: Settings
) -> None:
    ensure_table(spark, lake, AGENT_TURNS)
    with (
        instance_lock(lake.lake_root, "refine.interactions"),
        pytest.raises(LockedError, match=r"refine\.interactions runs already"),
    ):
        evolve(Context(spark, lake, "test"), [WIDER_TURNS])


@pytest.mark.parametrize(
    ("table", "old", "new", "told"),
    [
        (TOOL_INVOCATIONS, "ts_ms BIGINT", "ts_ms INT", r"ts_ms \(bigint, declared int\)"),
        (TOOL_INVOCATIONS, "status STRING", "status INT", r"status \(string, declared int\)"),
        (USAGE, "DECIMAL(20,6)", "DECIMAL(22,8)", r"quantity \(decimal\(20,6\), declared decimal\(22,8\)\)"),
        (LEDGER, "in_rows BIGINT", "in_rows DOUBLE", "in_rows"),
        (BILLING_USAGE, "DECIMAL(30,6)", "DECIMAL(31,6)", "quantity"),  # whose changes are delivered
        (bronze("leads"), "partition INT", "partition BIGINT", "partition"),  # whose files are counted on
    ],
)
def test_a_type_that_is_not_wider_is_refused_with_its_column(
    spark: SparkSession, lake: Settings, table: Table, old: str, new: str, told: str
) -> None:
    ensure_table(spark, lake, table)
    with pytest.raises(SetupError, match=told):
        evolve(Context(spark, lake, "test"), [declared(table, old, new)])
