"""The dedupe operator on a real stream: a Delta table, read in three starts with one checkpoint."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from headwater.identity import dedupe_hashes, record_hash
from tests.builders import LEAD
from transformations.dedupe import first_within, stamped

Key = tuple[str | None, str | None, str]  # tenant, idempotency key, outcome
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
COLUMNS = "outcome STRING, tenant_id STRING, key STRING, event_time TIMESTAMP, dedupe_hash STRING"


def records(*rows: tuple[Key, datetime, int]) -> list[tuple[Key, datetime]]:
    """(key, event time) so many times."""
    return [(key, event_time) for key, event_time, times in rows for _ in range(times)]


A: Key = ("acme", "a", "silver")
B: Key = ("acme", "b", "silver")
OTHER_TENANT: Key = ("zeta", "a", "silver")
DEAD: Key = ("acme", "a", "dead")
REFUSED: Key = ("acme", "a", "no_consent")
UNKNOWN: Key = (None, None, "dead")
OLD = NOON.replace(year=2001)
YEARS: list[Key] = [("acme", f"year {year}", "silver") for year in range(2000, 2026)]
BATCHES = [
    records((A, NOON, 10_000), (DEAD, NOON, 3), (REFUSED, NOON, 2), (UNKNOWN, NOON, 4)),
    records((A, NOON, 5), (B, OLD, 2), (OTHER_TENANT, NOON, 1), (DEAD, NOON, 3), (UNKNOWN, OLD, 4)),
    [(key, NOON.replace(year=2000 + i)) for i, key in reversed(list(enumerate(YEARS)))]
    + records((B, NOON, 1)),
]


def with_places(spark: SparkSession, batch: list[tuple[Key, datetime]], first: int) -> DataFrame:
    rows = [
        (outcome, tenant, key, event_time, identity(tenant, key, outcome, first + i))
        for i, ((tenant, key, outcome), event_time) in enumerate(batch)
    ]
    return spark.createDataFrame(rows, COLUMNS).repartition(4)


def identity(tenant: str | None, key: str | None, outcome: str, offset: int) -> str:
    """As classify makes it: of the event where it is valid, else of the record's place."""
    if outcome == "silver" and tenant and key:
        return dedupe_hashes(LEAD.stream, [tenant], [[key]])[0]
    return record_hash("lead.ingest", 0, offset)


@pytest.fixture(scope="module")
def kept(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[Counter[Key]]:
    """How often each key survived in each start."""
    folder = tmp_path_factory.mktemp("dedupe")
    first, found = 0, []
    for number, batch in enumerate(BATCHES):
        with_places(spark, batch, first).write.format("delta").mode("append").save(f"{folder}/rows")
        first += len(batch)
        run(spark, folder, number)
        rows = spark.read.parquet(f"{folder}/out{number}").collect()
        found.append(Counter((row["tenant_id"], row["key"], row["outcome"]) for row in rows))
    return found


def run(spark: SparkSession, folder: Path, number: int) -> None:
    """One start: take all there is, as refine does."""

    def write(batch: DataFrame, _: int) -> None:
        batch.write.mode("append").parquet(f"{folder}/out{number}")

    stream = (
        spark.readStream.format("delta")
        .load(f"{folder}/rows")
        .transform(stamped)
        .transform(first_within(LEAD.dedupe_window))
    )
    writer = stream.writeStream.option("checkpointLocation", f"{folder}/checkpoint").foreachBatch(write)
    writer.trigger(availableNow=True).start().awaitTermination()


def test_of_ten_thousand_copies_in_one_batch_one_is_kept(kept: list[Counter[Key]]) -> None:
    assert kept[0][A] == 1


def test_a_copy_in_a_later_batch_is_dropped_after_a_restart_too(kept: list[Counter[Key]]) -> None:
    assert (kept[1][A], kept[1][B], kept[2][B]) == (0, 1, 0)


def test_the_same_key_of_another_tenant_is_another_event(kept: list[Counter[Key]]) -> None:
    assert kept[1][OTHER_TENANT] == 1


@pytest.mark.parametrize(("key", "counts"), [(DEAD, [3, 3]), (REFUSED, [2, 0]), (UNKNOWN, [4, 4])])
def test_rejected_rows_are_never_merged_whatever_their_key(
    kept: list[Counter[Key]], key: Key, counts: list[int]
) -> None:
    assert [kept[0][key], kept[1][key]] == counts


def test_events_years_apart_and_out_of_order_are_all_kept(kept: list[Counter[Key]]) -> None:
    assert [kept[2][key] for key in YEARS] == [1] * len(YEARS)
