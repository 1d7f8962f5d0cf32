"""Letters that somebody is done with, beside a stream of them and before an audit."""

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession

from headwater.settings import Settings
from headwater.tables import read_table, stream_table
from schemas.tables import DEAD_LETTERS
from sources.letters.settle import discard
from tests.letters import append, identity, lake_settings, letter, make_lake

TABLE = DEAD_LETTERS.full_name


def test_a_stream_sees_each_letter_once_whatever_is_discarded(spark: SparkSession, tmp_path: Path) -> None:
    settings, seen = lake_settings(tmp_path / "lake"), list[int]()
    make_lake(settings, *[letter(number) for number in range(3)])
    follow(spark, settings, tmp_path, seen)
    assert discard(settings, [identity(1)]) == 1
    append(settings, letter(3))
    follow(spark, settings, tmp_path, seen)
    assert discard(settings, [identity(0), identity(3)]) == 2
    follow(spark, settings, tmp_path, seen)
    assert sorted(seen) == [0, 1, 2, 3]
    found = read_table(spark, settings, TABLE).select("source_offset", "status").collect()
    assert {offset: status for offset, status in found} == {
        0: "discarded", 1: "discarded", 2: "new", 3: "discarded",
    }  # fmt: skip


def follow(spark: SparkSession, settings: Settings, folder: Path, seen: list[int]) -> None:
    """Take all there is, from where the last time ended."""

    def take(batch: DataFrame, _: int) -> None:
        seen.extend(row["source_offset"] for row in batch.select("source_offset").collect())

    rows = stream_table(spark, settings, TABLE).writeStream.trigger(availableNow=True)
    rows.option("checkpointLocation", str(folder / "checkpoint")).foreachBatch(
        take
    ).start().awaitTermination()
