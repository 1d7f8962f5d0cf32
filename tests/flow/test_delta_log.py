"""Marked commits: a batch is in a table once, whoever asks, and Delta itself knows the mark."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow.parquet import ParquetFile
from pyspark.sql import SparkSession
from pyspark.sql.types import StringType, StructField

from headwater import delta_log
from headwater.delta_checksum import KEPT
from headwater.errors import DisagreeError
from headwater.log_trim import trim
from headwater.settings import Settings
from headwater.tables import (
    add_columns,
    append_once,
    append_rows,
    compact,
    ensure_table,
    read_table,
    set_property,
    table_path,
)
from schemas.tables import Table
from tests.conftest import settings_at
from tests.integration.lake import live_files

NUMBERS = Table("ops", "numbers", "n BIGINT, t STRING", ("n",))


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Settings:
    """A lake with the empty table."""
    settings = settings_at(tmp_path / "lake")
    ensure_table(spark, settings, NUMBERS)
    return settings


SMALL = 1 << 20
FEED = ("delta.enableChangeDataFeed", "true")


def numbers(spark: SparkSession, settings: Settings) -> list[int]:
    return sorted(row["n"] for row in read_table(spark, settings, NUMBERS.full_name).collect())


def arrow(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64()), "t": pa.array(["x"] * len(values))})


def test_a_batch_that_comes_again_is_written_once(spark: SparkSession, lake: Settings) -> None:
    for batch_id in (0, 0, 1, 1, 3, 3):
        rows = spark.createDataFrame([(batch_id, "x")], NUMBERS.columns)
        append_once(rows, lake, NUMBERS.full_name, "query", batch_id)
    assert numbers(spark, lake) == [0, 1, 3]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_batch_before_the_last_that_is_there_is_one_of_an_old_checkpoint(
    spark: SparkSession, tmp_path: Path, scheme: str
) -> None:
    lake = settings_at(tmp_path).model_copy(update={"lake": f"{scheme}{tmp_path}/lake"})
    # Delta takes file:///x, where it is made, and file:/x, where it is found, for two places.
    spark.conf.set("spark.databricks.delta.legacy.allowAmbiguousPathsInCreateTable", "true")
    ensure_table(spark, lake, NUMBERS)
    spark.conf.unset("spark.databricks.delta.legacy.allowAmbiguousPathsInCreateTable")
    for batch_id in (7, 7):
        rows = spark.createDataFrame([(batch_id, "x")], NUMBERS.columns)
        append_once(rows, lake, NUMBERS.full_name, "query", batch_id)
    with pytest.raises(DisagreeError, match="has batch 7 of a query that is at 6"):
        append_once(rows, lake, NUMBERS.full_name, "query", 6)
    with pytest.raises(DisagreeError, match="has batch 7 of a query that is at 5"):
        append_rows(spark, arrow(1), lake, NUMBERS.full_name, ("query", 5))
    append_rows(spark, arrow(8), lake, NUMBERS.full_name, ("another", 5))
    assert numbers(spark, lake) == [7, 8]


def test_two_queries_do_not_know_of_each_others_batches(spark: SparkSession, lake: Settings) -> None:
    for query in ("one", "two", "one"):
        append_once(spark.createDataFrame([(7, "x")], NUMBERS.columns), lake, NUMBERS.full_name, query, 3)
    assert numbers(spark, lake) == [7, 7]


def test_rows_of_the_driver_and_rows_of_spark_share_their_marks(spark: SparkSession, lake: Settings) -> None:
    append_rows(spark, arrow(1, 2), lake, NUMBERS.full_name, ("query", 0))
    append_once(spark.createDataFrame([(3, "x")], NUMBERS.columns), lake, NUMBERS.full_name, "query", 0)
    append_once(spark.createDataFrame([(4, "x")], NUMBERS.columns), lake, NUMBERS.full_name, "query", 1)
    append_rows(spark, arrow(5), lake, NUMBERS.full_name, ("query", 1))
    append_rows(spark, arrow(6), lake, NUMBERS.full_name)
    assert numbers(spark, lake) == [1, 2, 4, 6]


def test_deltas_own_check_finds_the_mark(spark: SparkSession, lake: Settings) -> None:
    rows = spark.createDataFrame([(1, "x")], NUMBERS.columns)
    append_once(rows, lake, NUMBERS.full_name, "query", 5)
    path, mark = table_path(lake, NUMBERS.full_name), {"txnAppId": f"query.{NUMBERS.full_name}"}
    for version in ("4", "5", "6"):
        rows.write.format("delta").mode("append").options(**mark, txnVersion=version).save(path)
    assert numbers(spark, lake) == [1, 1]
    assert delta_log.committed(path, mark["txnAppId"]) == 6


def test_a_mark_outlives_a_checkpoint_of_the_log(spark: SparkSession, lake: Settings) -> None:
    path = table_path(lake, NUMBERS.full_name)
    append_once(spark.createDataFrame([(1, "x")], NUMBERS.columns), lake, NUMBERS.full_name, "early", 9)
    for batch_id in range(delta_log.CHECKPOINT_EVERY + 5):
        append_rows(spark, arrow(2), lake, NUMBERS.full_name, ("late", batch_id))
    assert list(Path(path, "_delta_log").glob("*.checkpoint*"))
    for query, batch_id in (("early", 9), ("late", delta_log.CHECKPOINT_EVERY + 4)):
        append_once(
            spark.createDataFrame([(3, "x")], NUMBERS.columns), lake, NUMBERS.full_name, query, batch_id
        )
    assert numbers(spark, lake) == [1, *[2] * (delta_log.CHECKPOINT_EVERY + 5)]


def test_only_listed_columns_leave_statistics_in_the_log(spark: SparkSession, lake: Settings) -> None:
    append_once(spark.createDataFrame([(1, "canary")], NUMBERS.columns), lake, NUMBERS.full_name, "q", 0)
    append_rows(spark, arrow(2), lake, NUMBERS.full_name)
    logs = Path(table_path(lake, NUMBERS.full_name), "_delta_log").glob("*.json")
    text = "".join(log.read_text() for log in logs)
    assert "canary" not in text and '\\"x\\"' not in text
    assert '\\"n\\":2' in text


def test_a_stream_that_was_away_goes_on_from_a_trimmed_log(
    spark: SparkSession, lake: Settings, tmp_path: Path
) -> None:
    path, checkpoint = table_path(lake, NUMBERS.full_name), f"{lake.lake_root}/_checkpoints/reader"
    taken: list[int] = []

    def read() -> None:
        stream = spark.readStream.format("delta").load(path).writeStream
        stream = stream.option("checkpointLocation", checkpoint).trigger(availableNow=True)
        stream.foreachBatch(
            lambda rows, _: taken.extend(r["n"] for r in rows.collect())
        ).start().awaitTermination()

    def write(first: int, count: int) -> None:
        for n in range(first, first + count):
            append_rows(spark, arrow(n), lake, NUMBERS.full_name)
        row = spark.createDataFrame([(first + count, "x")], NUMBERS.columns)
        append_once(row, lake, NUMBERS.full_name, "writer", first)

    write(0, 120)
    read()
    write(200, 120)
    forgotten = [trim(lake.lake_root, path, delta_log.table_id(path), kept_s=0)]
    read()
    write(400, 120)
    read()
    forgotten.append(trim(lake.lake_root, path, delta_log.table_id(path), kept_s=0))
    write(600, 20)
    read()
    assert all(forgotten)
    assert sorted(taken) == numbers(spark, lake)
    assert sorted(taken) == [*range(121), *range(200, 321), *range(400, 521), *range(600, 621)]


def test_small_files_are_put_together_and_a_stream_sees_none_of_it(
    spark: SparkSession, lake: Settings, tmp_path: Path
) -> None:
    def read_on() -> list[int]:
        seen: list[int] = []
        query = (
            spark.readStream.format("delta")
            .option("skipChangeCommits", "true")
            .load(table_path(lake, NUMBERS.full_name))
            .writeStream.option("checkpointLocation", str(tmp_path / "checkpoint"))
            .foreachBatch(lambda batch, _: seen.extend(row["n"] for row in batch.collect()))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        return sorted(seen)

    assert compact(lake, NUMBERS.full_name, SMALL, 1) == 0
    for number in range(6):
        append_rows(spark, arrow(number), lake, NUMBERS.full_name, (f"job{number}", 0))
    assert read_on() == [0, 1, 2, 3, 4, 5]
    assert compact(lake, NUMBERS.full_name, SMALL, 7) == 0
    assert compact(lake, NUMBERS.full_name, SMALL, 6) == 6
    assert len(live_files(Path(table_path(lake, NUMBERS.full_name)))) == 1
    append_rows(spark, arrow(6), lake, NUMBERS.full_name, ("job6", 0))
    append_rows(spark, arrow(5), lake, NUMBERS.full_name, ("job5", 0))  # again: its mark is still known
    assert read_on() == [6]
    assert numbers(spark, lake) == [0, 1, 2, 3, 4, 5, 6]


def test_row_groups_of_files_that_are_put_together_are_of_few_rows(
    spark: SparkSession, lake: Settings
) -> None:
    for _ in range(3):
        append_rows(spark, arrow(*range(400)), lake, NUMBERS.full_name)
    assert compact(lake, NUMBERS.full_name, SMALL, 3) == 3
    folder = Path(table_path(lake, NUMBERS.full_name))
    (made,) = live_files(folder)
    assert ParquetFile(folder / made["path"]).metadata.num_row_groups == 3


def test_days_with_few_small_files_are_left_alone(tmp_path: Path) -> None:
    kind = pa.schema([("n", pa.int64()), ("event_date", pa.date32())])
    path = str(tmp_path / "dated")
    delta_log.create(path, kind, ["event_date"], {})
    busy, calm = date(2026, 3, 2), date(2026, 3, 1)
    for number, day in enumerate([busy, busy, calm, busy, calm]):
        delta_log.append_rows(pa.table([[number], pa.array([day], pa.date32())], schema=kind), path)
    assert delta_log.compact(path, SMALL, 3) == 3
    assert delta_log.compact(path, SMALL, 3) == 0
    files = [part["partitionValues"]["event_date"] for part in live_files(Path(path))]
    assert sorted(files) == ["2026-03-01", "2026-03-01", "2026-03-02"]
    assert sorted(delta_log.read_days(path, ["n"], [busy], None)["n"].to_pylist()) == [0, 1, 3]
    assert delta_log.compact(path, 10, 1) == 0


def test_a_change_feed_says_nothing_of_files_that_are_put_together(
    spark: SparkSession, lake: Settings, tmp_path: Path
) -> None:
    table = Table("gold", "fed", "n BIGINT, event_date DATE", (), ("event_date",), (FEED,))
    day = date(2026, 3, 1)

    def enter(number: int) -> None:
        rows = pa.table({"n": [number], "event_date": pa.array([day], pa.date32())})
        append_rows(spark, rows, lake, table.full_name)

    def read_on() -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        query = (
            spark.readStream.format("delta")
            .option("readChangeFeed", "true")
            .load(table_path(lake, table.full_name))
            .writeStream.option("checkpointLocation", str(tmp_path / "fed"))
            .foreachBatch(lambda batch, _: seen.extend((r["n"], r["_change_type"]) for r in batch.collect()))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        return sorted(seen)

    ensure_table(spark, lake, table)
    for number in range(3):
        enter(number)
    assert read_on() == [(0, "insert"), (1, "insert"), (2, "insert")]
    assert compact(lake, table.full_name, SMALL, 3) == 3
    assert read_on() == []
    enter(3)
    assert read_on() == [(3, "insert")]
    assert sorted(row["n"] for row in read_table(spark, lake, table.full_name).collect()) == [0, 1, 2, 3]


def snapshot_of(spark: SparkSession, path: str) -> Any:
    """What Spark finds when it looks at the table again."""
    jvm: Any = spark._jvm
    nothing = getattr(getattr(jvm, "scala.None$"), "MODULE$")
    log = jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, path)
    return log.update(False, nothing, nothing)


def jobs_so_far(spark: SparkSession) -> int:
    return int(spark.sparkContext._jsc.sc().dagScheduler().nextJobId())


def test_spark_looks_at_a_commit_of_delta_rs_without_a_job(spark: SparkSession, lake: Settings) -> None:
    path = table_path(lake, NUMBERS.full_name)
    snapshot_of(spark, path).metadata()
    before = jobs_so_far(spark)
    for number in range(3):
        append_rows(spark, arrow(number), lake, NUMBERS.full_name)
        snapshot = snapshot_of(spark, path)
        assert (snapshot.version(), snapshot.metadata().schema().length()) == (number + 1, 2)
    assert jobs_so_far(spark) == before


@pytest.mark.parametrize("lost", [(), (2, 4)], ids=["all there", "some lost in a crash"])
def test_what_a_checksum_says_is_what_delta_counts_from_the_log(
    spark: SparkSession, lake: Settings, lost: tuple[int, ...]
) -> None:
    path = table_path(lake, NUMBERS.full_name)
    nothing = getattr(spark._jvm, "scala.collection.immutable.Map$")
    empty = getattr(nothing, "MODULE$").empty()
    steps: list[Callable[[], object]] = [
        lambda: append_rows(spark, arrow(1, 2), lake, NUMBERS.full_name),
        lambda: append_rows(spark, arrow(3), lake, NUMBERS.full_name),
        lambda: append_once(
            spark.createDataFrame([(4, "x")], NUMBERS.columns), lake, NUMBERS.full_name, "q", 0
        ),
        lambda: append_rows(spark, arrow(5), lake, NUMBERS.full_name, ("q", 1)),
        lambda: set_property(spark, lake, NUMBERS.full_name, "headwater.seen", "yes"),
        lambda: compact(lake, NUMBERS.full_name, SMALL, 3),
        lambda: delta_log.merge(
            arrow(3).append_column("gone", pa.array([True])),
            path,
            "kept.n = made.n",
            {"n": "made.n"},
            {},
            "gone",
        ),
        lambda: add_columns(spark, lake, NUMBERS.full_name, [StructField("more", StringType())]),
    ]
    for version, step in enumerate(steps, start=1):
        step()
        checksum = Path(path, "_delta_log", f"{version:020d}.crc")
        assert json.loads(checksum.read_text())["numFiles"] == len(live_files(Path(path)))
        snapshot = snapshot_of(spark, path)
        assert snapshot.checksumOpt().isDefined() and snapshot.validateChecksum(empty)
        if version in lost:
            checksum.unlink()
    assert numbers(spark, lake) == [1, 2, 4, 5]
    assert snapshot.metadata().configuration().contains("headwater.seen")
    assert list(snapshot.metadata().schema().fieldNames()) == ["n", "t", "more"]


def checksums(path: str) -> list[int]:
    """The versions that have one."""
    return sorted(int(file.stem) for file in Path(path, "_delta_log").glob("*.crc"))


def test_only_the_newest_commits_keep_a_checksum(tmp_path: Path) -> None:
    path = str(tmp_path / "busy")
    delta_log.create(path, arrow(0).schema, [], {})
    assert checksums(path) == [0]
    for number in range(KEPT + 3):
        delta_log.append_rows(arrow(number), path)
    assert checksums(path) == [*range(4, KEPT + 4)]


@pytest.mark.parametrize("statistics", ["event_time", ""], ids=["with", "without"])
@pytest.mark.parametrize("by_spark", [False, True], ids=["delta-rs", "Spark"])
def test_files_of_other_hours_are_not_read_where_statistics_say_so(
    spark: SparkSession, tmp_path: Path, by_spark: bool, statistics: str
) -> None:
    at = pa.timestamp("us", "UTC")
    kind = pa.schema([("n", pa.int64()), ("event_time", at), ("event_date", pa.date32())])
    path = str(tmp_path / "dated")
    delta_log.create(path, kind, ["event_date"], {"delta.dataSkippingStatsColumns": statistics or "n"})
    ten, tick = datetime(2026, 3, 2, 10, tzinfo=UTC), timedelta(microseconds=1)
    hour = timedelta(hours=1)
    moments = [ten - tick, ten, ten + hour - tick, ten + hour, ten + 3 * hour + tick, ten - 24 * hour]
    for number, moment in enumerate(moments):
        rows = pa.table([[number], pa.array([moment], at), [moment.date()]], schema=kind)
        if by_spark:
            delta_log.append(spark.createDataFrame(rows), path, "query", number)
        else:
            delta_log.append_rows(rows, path)

    def found(*hours: datetime) -> list[int]:
        rows = delta_log.read_days(path, ["n"], [ten.date()], None, hours)
        return sorted(rows["n"].to_pylist())

    everything = [0, 1, 2, 3, 4]
    assert found() == everything
    assert found(ten) == ([1, 2] if statistics else everything)
    assert found(ten, ten + 3 * hour) == ([1, 2, 4] if statistics else everything)
    many = [ten + number * hour for number in range(-30, 1)]
    assert found(*many) == ([0, 1, 2] if statistics else everything)


def test_texts_of_rows_that_were_merged_can_be_asked_for(tmp_path: Path) -> None:
    kind = pa.schema([("name", pa.string()), ("row_version", pa.int64()), ("event_date", pa.date32())])
    path = str(tmp_path / "merged")
    delta_log.create(path, kind, ["event_date"], {"delta.enableChangeDataFeed": "true"})
    day = date(2026, 3, 1)
    told = {"name": ["a", "b"], "row_version": [1, 2], "event_date": [day, day], "gone": [False, False]}
    rows = pa.table(told)
    columns = {name: f"made.{name}" for name in kind.names}
    same = "kept.name = made.name AND kept.event_date IN (DATE '2026-03-01')"
    for _ in range(2):
        delta_log.merge(rows, path, same, columns, columns, "made.gone")
    found = delta_log.read_days(
        path, ["name", "row_version"], [day], pc.field("name").isin(pa.array(["b", "c"]))
    )
    assert found.to_pylist() == [{"name": "b", "row_version": 2}]
    assert delta_log.read_days(path, ["name"], [date(2026, 3, 2)], None).num_rows == 0
