"""jobs report: what is bad is found and told without a value, a version is pinned, a run id counts once."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from headwater.clock import utc_now
from headwater.errors import QualityError, SetupError
from headwater.settings import load_settings
from headwater.tables import ensure_table
from jobs import report as reporting
from jobs.quality_snapshot import taken, with_rule
from jobs.quality_suite import validate
from jobs.report import report
from schemas.comments import lake_tables
from schemas.expectation_files import suites
from schemas.expectations import Expectation, Suite
from schemas.tables import AGENT_TURNS, LEADS, QUALITY_RUNS
from tests.flow.report_lake import CANARY, ReportLake, report_settings, steady


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportLake]:
    """Fifty good leads, two with an address in capitals, one without consent; a ledger of ten days."""
    folder = tmp_path_factory.mktemp("report")
    made = ReportLake(spark, report_settings(folder))
    made.leads(50)
    made.leads(2, email=CANARY.upper())
    made.leads(1, consent=False)
    made.ledger(steady(utc_now(), 10))
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def told(lake: ReportLake) -> tuple[str, dict[str, dict[str, Any]]]:
    """What a run says at its end, and its rows."""
    with pytest.raises(QualityError) as fault:
        report(lake.context("night"), ["silver.leads", "ops.ledger"])
    return str(fault.value), {row["table"]: row for row in lake.rows(QUALITY_RUNS.full_name)}


def test_gates_that_fail_are_told_after_everything_was_written(
    told: tuple[str, dict[str, dict[str, Any]]],
) -> None:
    text, rows = told
    assert text.startswith("report: 2 gates failed: silver.leads: ")
    leads = rows["silver.leads"]
    gates = {
        (failure["column"], failure["unexpected"])
        for failure in leads["failures"]
        if failure["severity"] == "gate"
    }
    assert gates == {("rule_consented", 1), ("rule_email_in_lower_case", 2)}
    assert (leads["rows"], leads["rows_taken"], leads["how"], leads["passed"]) == (53, 53, "all", False)
    assert leads["failed"] == len(leads["failures"])
    assert leads["pass_share"] == 1 - leads["failed"] / leads["expectations"]
    assert rows["ops.ledger"]["passed"]


def test_each_run_is_in_mlflow(lake: ReportLake, told: tuple[str, dict[str, dict[str, Any]]]) -> None:
    assert all(row["tracked"] for row in told[1].values())
    with sqlite3.connect(lake.settings.quality.root / "mlflow" / "runs.db") as runs:
        params = runs.execute("SELECT key, value FROM params").fetchall()
        metrics = dict(
            runs.execute(
                "SELECT m.key, m.value FROM metrics m JOIN params p USING (run_uuid) "
                "WHERE p.key = 'table' AND p.value = 'silver.leads'"
            ).fetchall()
        )
    runs.close()
    assert {("table", "silver.leads"), ("table", "ops.ledger"), ("suite", "ledger")} <= set(params)
    assert metrics["rows"] == 53
    assert metrics["pass_share"] == pytest.approx(told[1]["silver.leads"]["pass_share"])


def test_the_page_and_data_docs_are_there_and_need_nothing_from_elsewhere(
    lake: ReportLake, told: tuple[str, dict[str, dict[str, Any]]]
) -> None:
    root = lake.settings.quality.root
    page = (root / "index.html").read_text()
    (docs,) = [folder for folder in (root / "docs" / "silver.leads").iterdir()]
    (results,) = (docs / "validations").rglob("*.html")
    assert f'href="{results.relative_to(root)}"' in page
    assert page.count("<svg") >= 2
    assert "rule_consented" in page
    pages = [*docs.rglob("*.html")]
    assert len(pages) >= 3
    for text in [page, *[one.read_text() for one in pages]]:
        for loaded in ("<script", "<link", "<img", "@import", "url("):
            assert loaded not in text


def test_no_file_that_was_written_holds_a_value(
    lake: ReportLake, told: tuple[str, dict[str, dict[str, Any]]]
) -> None:
    silver = Path(lake.settings.lake_root) / "silver"
    folder = lake.settings.quality.root.parent
    files = [file for file in folder.rglob("*") if file.is_file() and silver not in file.parents]
    assert len(files) > 10
    for file in files:
        assert CANARY.encode() not in file.read_bytes().lower(), file
    assert CANARY not in json.dumps(told[1], default=str).lower()
    assert CANARY not in told[0].lower()


def test_a_second_run_with_the_same_id_looks_at_nothing_and_says_the_same(
    lake: ReportLake, told: tuple[str, dict[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "validate", None)
    with pytest.raises(QualityError) as fault:
        report(lake.context("night"), ["silver.leads", "ops.ledger"])
    assert str(fault.value) == told[0]
    assert len(lake.rows(QUALITY_RUNS.full_name)) == 2


def test_a_table_that_moves_on_is_looked_at_as_it_was(lake: ReportLake) -> None:
    with taken(lake.context("x"), LEADS, ()) as rows:
        lake.leads(5)
        assert rows.frame.count() == rows.rows == 53
    with taken(lake.context("x"), LEADS, ()) as later:
        assert (later.version, later.rows) == (rows.version + 1, 58)


def test_of_a_large_table_a_sample_is_taken_and_always_the_same_one(
    spark: SparkSession, lake: ReportLake
) -> None:
    settings = report_settings(lake.settings.quality.root.parent, max_rows=20)
    small = ReportLake(spark, settings)
    found = []
    for _ in range(2):
        with taken(small.context("x"), LEADS, ()) as rows:
            assert rows.how == "sample"
            assert 0 < rows.rows_taken < rows.rows
            found.append({row["id"] for row in rows.frame.select("id").collect()})
    assert found[0] == found[1]


def test_of_a_large_table_with_partitions_the_newest_that_fit_are_taken(
    spark: SparkSession, lake: ReportLake
) -> None:
    settings = report_settings(lake.settings.quality.root.parent, max_rows=5)
    ensure_table(spark, settings, AGENT_TURNS)
    days = [(f"2026-03-0{day}", count) for day, count in ((1, 4), (2, 3), (3, 2))]
    rows = [
        {"event_id": "e", "event_date": datetime.fromisoformat(day).date()}
        for day, n in days
        for _ in range(n)
    ]
    frame = spark.createDataFrame(rows, "event_id STRING, event_date DATE")
    frame.write.format("delta").mode("append").save(f"{settings.lake_root}/silver/agent_turns")
    with taken(ReportLake(spark, settings).context("x"), AGENT_TURNS, ()) as newest:
        assert (newest.how, newest.rows, newest.rows_taken) == ("partitions", 9, 5)


@pytest.mark.parametrize(
    ("name", "why"),
    [("silver.lead", "has no suite"), ("silver.usage", "no such table in the lake yet")],
)
def test_a_table_that_cannot_be_looked_at_is_a_setup_fault(lake: ReportLake, name: str, why: str) -> None:
    with pytest.raises(SetupError, match=why):
        report(lake.context("other"), [name])


def test_mlflow_away_costs_a_report_nothing_but_that(lake: ReportLake, tmp_path: Path) -> None:
    away = {"mlflow_uri": "http://127.0.0.1:9", "mlflow_timeout_s": 1}
    settings = report_settings(lake.settings.quality.root.parent, **away)
    context = ReportLake(lake.spark, settings).context("away")
    assert report(context, ["ops.ledger"])["report"]["ops.ledger"]["tracked"] is False


def test_an_expectation_that_cannot_be_worked_out_has_failed_and_its_fault_is_told_nowhere(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files of expectations do not get so far: Spark would fail at the text, and quote it."""
    frame = spark.createDataFrame([(CANARY,)], "email STRING")
    asked = Expectation("expect_column_values_to_be_between", {"column": "email", "min_value": 3})
    (found,) = validate("silver.leads", frame, Suite("test", (asked,)), tmp_path / "docs")
    assert (found.passed, found.message) == (False, "could not be worked out")
    assert not (tmp_path / "docs").exists()
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and CANARY in file.read_text()]
    assert CANARY not in caplog.text


def test_every_rule_that_is_shipped_can_be_held_against_its_table(spark: SparkSession) -> None:
    found = suites(load_settings("staging").quality.suites)
    for table in lake_tables():
        rules = (
            [one for one in found[table.full_name].expectations if one.holds]
            if table.full_name in found
            else []
        )
        frame = reduce(with_rule, rules, spark.createDataFrame([], table.columns))
        assert {rule.column for rule in rules} <= set(frame.columns)
    with pytest.raises(SetupError, match="rule odd: nobody > 3 is nothing"):
        with_rule(frame, Expectation("x", {"column": "rule_odd"}, holds="nobody > 3"))
