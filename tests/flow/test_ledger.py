"""ops.ledger: a batch is entered once, and the highest offsets are told by query and by checkpoint."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from headwater.errors import DisagreeError
from headwater.ledger import Entry, high_water, write_ledger
from headwater.offsets import Range
from headwater.settings import Settings
from headwater.tables import ensure_table, read_table
from schemas.tables import LEDGER
from tests.conftest import settings_at


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Settings:
    """Two checkpoints of refine, and one of ingest, in a folder with a difficult name."""
    settings = settings_at(tmp_path / "the lake 100% dä")
    ensure_table(spark, settings, LEDGER)
    for query, checkpoint, batch, last in [
        ("refine.leads", "old", 0, 9),
        ("refine.leads", "old", 1, 19),
        ("refine.leads", "new", 0, 29),
        ("ingest.leads", "own", 0, 99),
    ]:
        places = {"lead.ingest-0": Range(last - 9, last, 10), "lead.ingest-1": Range(0, 4, 5)}
        write_ledger(
            spark, settings, query, checkpoint, batch, [Entry("lead.ingest", None, 15, offsets=places)]
        )
    return settings


def test_the_high_water_of_a_query_is_the_last_offset_of_each_partition(
    spark: SparkSession, lake: Settings
) -> None:
    assert high_water(spark, lake, "refine.leads") == {"lead.ingest-0": 29, "lead.ingest-1": 4}
    assert high_water(spark, lake, "ingest.leads") == {"lead.ingest-0": 99, "lead.ingest-1": 4}
    assert high_water(spark, lake, "refine.crm") == {}


def test_it_is_told_with_or_without_one_checkpoint(spark: SparkSession, lake: Settings) -> None:
    assert high_water(spark, lake, "refine.leads", before="new")["lead.ingest-0"] == 19
    assert high_water(spark, lake, "refine.leads", only="new")["lead.ingest-0"] == 29
    assert high_water(spark, lake, "refine.leads", only="none") == {}


def test_without_a_ledger_nothing_is_known(spark: SparkSession, settings: Settings) -> None:
    assert high_water(spark, settings, "refine.leads") == {}


def test_an_empty_ledger_knows_nothing(spark: SparkSession, settings: Settings) -> None:
    ensure_table(spark, settings, LEDGER)
    assert high_water(spark, settings, "refine.leads") == {}


def test_a_batch_that_comes_again_is_entered_once(spark: SparkSession, lake: Settings) -> None:
    again = [Entry("lead.ingest", None, 15)]
    write_ledger(spark, lake, "refine.leads", "old", 1, again)
    with pytest.raises(DisagreeError, match="is at 0: an old copy"):
        write_ledger(spark, lake, "refine.leads", "old", 0, again)
    assert read_table(spark, lake, LEDGER.full_name).count() == 4
