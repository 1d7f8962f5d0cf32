"""Runs of reports in MLflow, by SQLite and without a network."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater.quality_settings import Quality
from headwater.settings import load_settings
from jobs.quality_mlflow import Tracker
from jobs.quality_runs import Failure, QualityRun

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
RUN = QualityRun(
    "it's night", "silver.leads", 7, "lead.ingest@1.0.0", 1000, 900, "sample", 10,
    (Failure("rule", "rule_consented", "gate", 3, 0.003),), NOW, NOW,
)  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Quality:
    folder = tmp_path_factory.mktemp("quality")
    return load_settings("staging").quality.model_copy(update={"folder": folder})


def asked(settings: Quality, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(settings.root / "mlflow" / "runs.db")) as runs:
        return runs.execute(query).fetchall()


def test_a_run_has_its_parameters_and_metrics_and_is_there_once(settings: Quality) -> None:
    assert [Tracker(settings).track(RUN) for _ in range(2)] == [True, True]
    params = dict(asked(settings, "SELECT key, value FROM params"))
    assert params["table"] == "silver.leads"
    assert (params["version"], params["suite"], params["how"]) == ("7", "lead.ingest@1.0.0", "sample")
    metrics = dict(asked(settings, "SELECT key, value FROM metrics"))
    assert metrics == {"pass_share": 0.9, "rows": 1000, "rows_taken": 900, "failed": 1, "passed": 0}
    assert asked(settings, "SELECT count(*) FROM runs") == [(1,)]
    assert asked(settings, "SELECT name FROM experiments WHERE experiment_id > 0") == [("headwater-quality",)]


def test_another_table_of_the_same_report_is_another_run(settings: Quality) -> None:
    assert Tracker(settings).track(replace(RUN, table="silver.usage"))
    assert asked(settings, "SELECT count(*) FROM runs WHERE status = 'FINISHED'") == [(2,)]


def test_a_server_that_is_away_is_asked_once_a_report(
    settings: Quality, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    away = settings.model_copy(update={"mlflow_uri": "http://127.0.0.1:9", "mlflow_timeout_s": 1})
    tracker = Tracker(away)
    assert not tracker.track(RUN)
    monkeypatch.setattr(tracker, "_opened", None)
    assert not tracker.track(RUN)
