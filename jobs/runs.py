"""ops.job_runs: one row per finished run, so that a run with the same name is done once, and one per decision
of a person to let something pass."""

import getpass
import os
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pyarrow as pa

from headwater.clock import utc_now
from headwater.log import logger
from headwater.tables import append_rows, ensure_table, exists, read_few
from headwater.version import CODE_VERSION
from jobs.queries import Context
from schemas.tables import JOB_RUNS

_log = logger(__name__)
_COUNTS = ("rows_in", "rows_out", "duplicate", "dead", "no_consent", "erased", "filtered")
SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("job", "run_id", "status")],
        *[(name, pa.int64()) for name in _COUNTS],
        ("seconds", pa.float64()),
        ("error", pa.string()),
        *[(name, pa.timestamp("us", tz="UTC")) for name in ("started_at", "ended_at")],
        ("code_version", pa.string()),
    ]
)


def finished_before(context: Context, job: str) -> bool:
    """Whether a run of this job with this run id ended well before."""
    if not exists(context.spark, context.settings, JOB_RUNS.full_name):
        return False
    where = ("run_id", context.run_id)
    runs = read_few(context.spark, context.settings, JOB_RUNS.full_name, ["job", "status"], where)
    return {"job": job, "status": "ok"} in runs.to_pylist()


def record_run(context: Context, job: str, started: datetime, status: str, error: str | None) -> None:
    """Append the run."""
    _append(context, {"job": job, "status": status, **asdict(context.totals), "error": error}, started)


def record_decision(context: Context, query: str, what: str, mark: tuple[str, int] | None = None) -> None:
    """Append that a person let something pass that stops a query otherwise: a row of status `accepted`.

    With a mark (query id, batch id), once for the batch.
    """
    _log.warning("accepted", query=query, what=what)
    _append(context, {"job": query, "status": "accepted", "error": what}, utc_now(), mark)


def who() -> str:
    """The user of the operating system; in a container that knows no names, the number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _append(
    context: Context, row: dict[str, Any], started: datetime, mark: tuple[str, int] | None = None
) -> None:
    spark, settings, ended = context.spark, context.settings, utc_now()
    ensure_table(spark, settings, JOB_RUNS)
    whole = {
        **row,
        "run_id": context.run_id,
        "seconds": (ended - started).total_seconds(),
        "started_at": started,
        "ended_at": ended,
        "code_version": CODE_VERSION,
    }
    table = pa.Table.from_pylist([whole], schema=SCHEMA)
    append_rows(spark, table, settings, JOB_RUNS.full_name, mark)
