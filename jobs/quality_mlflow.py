"""Runs of reports in MLflow: SQLite below the report's folder, or a server. Only here is that package met.

It is told not to phone home. Its absence, or a server that is away, costs a warning and no report.
"""

import os
import warnings
from pathlib import Path
from typing import Any

from headwater.clock import iso
from headwater.log import logger
from headwater.quality_settings import Quality
from jobs.quality_runs import QualityRun

EXPERIMENT = "headwater-quality"
_log = logger(__name__)


class Tracker:
    """Writes runs down for the length of a report; after the first that fails it tries no more."""

    def __init__(self, settings: Quality) -> None:
        self._settings = settings
        self._client: Any = None
        self._experiment = ""
        self._away = False

    def track(self, run: QualityRun) -> bool:
        """One run of one table, once for a run id; whether MLflow has it."""
        if self._away:
            return False
        try:
            # What it will have to change some day is its own affair.
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                self._client = self._client or self._opened()
                return self._written(run)
        except Exception as fault:  # of MLflow, requests or SQLAlchemy: whatever it is, data quality goes on
            self._away = True
            _log.warning("not_tracked", system="mlflow", why=type(fault).__name__)
            return False

    def _opened(self) -> Any:
        client = _silent(self._settings)(tracking_uri=self._uri())
        found = client.get_experiment_by_name(EXPERIMENT)
        local = None if self._settings.mlflow_uri else (self._folder() / "artifacts").as_uri()
        self._experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, local)
        return client

    def _written(self, run: QualityRun) -> bool:
        tags = {"headwater.run_id": _plain(run.run_id), "headwater.table": run.table}
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        if self._client.search_runs([self._experiment], where, max_results=1):
            return True
        made = self._client.create_run(self._experiment, tags=tags, run_name=run.table)
        params = {"table": run.table, "version": run.table_version, "suite": run.suite, "how": run.how}
        params |= {"code_version": run.code_version, "started_at": iso(run.started_at)}
        metrics = {"pass_share": run.pass_share, "rows": run.rows, "rows_taken": run.rows_taken}
        metrics |= {"failed": len(run.failures), "passed": int(run.passed)}
        for name, value in params.items():
            self._client.log_param(made.info.run_id, name, value)
        for name, value in metrics.items():
            self._client.log_metric(made.info.run_id, name, value)
        self._client.set_terminated(made.info.run_id)
        return True

    def _uri(self) -> str:
        if self._settings.mlflow_uri:
            return self._settings.mlflow_uri
        self._folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        return f"sqlite:///{self._folder() / 'runs.db'}"

    def _folder(self) -> Path:
        return self._settings.root / "mlflow"


def _silent(settings: Quality) -> Any:
    """The client's class, imported with telemetry off and with an end to its patience."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(settings.mlflow_timeout_s)
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
    from mlflow import MlflowClient

    return MlflowClient


def _plain(text: str) -> str:
    """In MLflow's filters nothing stands for a quotation mark."""
    return text.replace("'", "")
