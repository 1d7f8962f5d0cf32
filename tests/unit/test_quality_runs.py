"""Rows of ops.quality_runs, the command line of the report, and what no other job waits for."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from headwater.settings import ROOT
from jobs.cli import app
from jobs.quality_runs import SCHEMA, Failure, QualityRun
from schemas.tables import QUALITY_RUNS
from tests.builders import arrow_schema

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
RUN = QualityRun("night", "silver.leads", 7, "lead.ingest@1.0.0", 1000, 900, "sample", 4, (), NOW, NOW)
WARN, GATE = Failure("rule", "rule_a", "warn", 3, 0.1), Failure("rule", "rule_b", "gate", 3, 0.1)


def test_rows_have_the_columns_of_the_table() -> None:
    assert arrow_schema(QUALITY_RUNS.columns) == SCHEMA


@pytest.mark.parametrize(
    ("failures", "passed", "share"),
    [((), True, 1.0), ((WARN,), True, 0.75), ((WARN, GATE), False, 0.5)],
)
def test_gates_decide_and_warnings_count(failures: tuple[Failure, ...], passed: bool, share: float) -> None:
    row = replace(RUN, failures=failures).as_row()
    assert (row["passed"], row["failed"], row["pass_share"]) == (passed, len(failures), share)
    assert pa.Table.from_pylist([row], schema=SCHEMA).to_pylist() == [row | {"failures": [*row["failures"]]}]


def test_where_nothing_was_expected_nothing_failed() -> None:
    assert replace(RUN, expectations=0).pass_share == 1.0


@pytest.mark.parametrize("words", [[], ["--all", "--table", "silver.leads"]], ids=str)
def test_either_tables_or_all_are_named(words: list[str]) -> None:
    assert CliRunner().invoke(app, ["report", *words]).exit_code == 2


def test_great_expectations_says_nothing_in_a_jobs_log() -> None:
    program = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from headwater.log import configure_logging; configure_logging()\n"
        "from jobs.quality_suite import _silent; _silent().get_context(mode='ephemeral')"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert (found.stdout, found.stderr) == ("", "")


def test_no_other_job_waits_for_the_packages_of_reports() -> None:
    program = "import sys, jobs.registry; print({'great_expectations', 'mlflow'} & sys.modules.keys())"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout == "set()\n"
