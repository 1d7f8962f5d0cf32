"""Events that their tenant does not want: each has a row that says so, the sums hold, and none of it changes
when a batch is done again or a checkpoint is lost."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from headwater.errors import HeadwaterError, QualityError, SetupError
from headwater.tables import append_rows, checkpoint_path, ensure_table, table_path
from jobs import refine
from jobs.audit import audit
from jobs.queries import Context
from jobs.refine import Refine
from jobs.runtime import Runtime
from schemas.tables import FILTERED, LEDGER
from tests.conftest import settings_at
from tests.flow.usage_lake import CONTRACT, MIXED, RULES, THEN, UsageLake, used


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[UsageLake]:
    """A lake whose acme has a filter and a rule of its own."""
    (tmp_path / "overlays").mkdir()
    settings = settings_at(tmp_path)
    streams = settings.streams.model_copy(update={"overlays": tmp_path / "overlays"})
    yield filtering(UsageLake(spark, settings.model_copy(update={"streams": streams})))
    shutil.rmtree(tmp_path)


def filtering(lake: UsageLake, *, on: bool = True) -> UsageLake:
    folder = lake.settings.streams.overlays
    assert folder
    file = folder / f"{CONTRACT.stream}.yaml"
    file.write_text(RULES) if on else file.unlink()
    return lake


def run(lake: UsageLake) -> Context:
    context = lake.context()
    Runtime(context, once=True).run([Refine(context, "interactions")])
    return context


def outcomes(lake: UsageLake) -> dict[str, list[int]]:
    """The offsets in each table."""
    tables = {"silver": "silver.usage", "dead": "ops.dead_letters", "filtered": FILTERED.full_name}
    return {name: sorted(row["source_offset"] for row in lake.table(table)) for name, table in tables.items()}


EXPECTED = {"silver": [0, 4], "dead": [2], "filtered": [1, 3, 6]}


def test_each_filtered_record_has_a_row_and_the_sums_hold(lake: UsageLake) -> None:
    lake.arrive(MIXED)
    done = run(lake).totals
    assert outcomes(lake) == EXPECTED
    assert (done.rows_in, done.rows_out, done.duplicate, done.dead, done.filtered) == (7, 2, 1, 1, 3)
    (row, *_) = [row for row in lake.table(FILTERED.full_name) if row["source_offset"] == 1]
    assert (row["stream"], row["tenant_id"], row["filter"]) == (CONTRACT.stream, "acme", "no-tests")
    assert row["event_time"] == THEN
    by_tenant = {row["tenant_id"]: row["filtered"] for row in lake.table(LEDGER.full_name) if row["silver"]}
    assert by_tenant == {"acme": 3, "globex": 0}


def test_a_filter_that_comes_or_goes_leaves_what_was_decided_and_audit_finds_nothing(lake: UsageLake) -> None:
    lake.arrive(MIXED)
    run(lake)
    filtering(lake, on=False)
    # What was filtered is not remembered as an event: a later copy is the first.
    lake.arrive([MIXED[1]])
    run(lake)
    assert outcomes(lake) == EXPECTED | {"silver": [0, 4, 7]}
    filtering(lake)
    shutil.rmtree(checkpoint_path(lake.settings, "refine.interactions"))
    lake.arrive([used("f", THEN), used("g", THEN, metric="test")])
    run(lake)
    assert outcomes(lake) == {"silver": [0, 4, 7, 8], "dead": [2], "filtered": [1, 3, 6, 9]}
    counts = audit(lake.context(), "interactions")[CONTRACT.stream]
    assert (counts["filtered"], counts["ledger_filtered"], counts["unexplained"]) == (4, 4, 0)


def test_a_batch_that_was_cut_before_the_ledger_is_not_filtered_otherwise(
    lake: UsageLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.arrive(MIXED)

    def crash(*_: object) -> None:
        raise HeadwaterError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(refine, "write_ledger", crash)
        with pytest.raises(HeadwaterError, match="cut short"):
            run(lake)
    assert outcomes(lake) == EXPECTED
    filtering(lake, on=False)
    done = run(lake).totals
    assert outcomes(lake) == EXPECTED
    assert (done.rows_out, done.dead, done.filtered) == (2, 1, 3)


def test_audit_names_filtered_rows_that_are_there_twice_or_beside_another_outcome(
    spark: SparkSession, lake: UsageLake
) -> None:
    lake.arrive(MIXED)
    run(lake)
    kept = [row for row in lake.table(FILTERED.full_name) if row["source_offset"] == 1]
    rows = spark.createDataFrame(
        [kept[0], kept[0] | {"source_offset": 0}], spark.createDataFrame([], FILTERED.columns).schema
    )
    append_rows(spark, rows.toArrow(), lake.settings, FILTERED.full_name)
    with pytest.raises(QualityError) as told:
        audit(lake.context(), "interactions")
    for text in (
        "filtered holds a record twice (5 and 4)",
        "filtered records and the ledger differ (5 and 3)",
        "1 records with more than one outcome",
    ):
        assert text in str(told.value)


def test_a_table_of_an_older_version_is_refused_with_the_remedy(lake: UsageLake) -> None:
    older = LEDGER.columns.replace("filtered BIGINT,", "")
    ensure_table(lake.spark, lake.settings, type(LEDGER)("ops", "ledger", older, ()))
    assert Path(table_path(lake.settings, "ops.ledger")).exists()
    with pytest.raises(SetupError, match=r"ops\.ledger has no column filtered; run `python -m jobs migrate`"):
        Refine(lake.context(), "interactions").prepare()
