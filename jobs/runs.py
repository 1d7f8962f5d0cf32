"""ops.job_runs: one row per finished run, so that a run with the same name is done once."""

from dataclasses import asdict
from datetime import datetime

import pyarrow as pa

from headwater.clock import utc_now
from headwater.tables import append_rows, ensure_table, exists, read_few
from headwater.version import CODE_VERSION
from jobs.queries import Context
from schemas.tables import JOB_RUNS

_COUNTS = ("rows_in", "rows_out", "duplicate", "dead", "no_consent", "erased")
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
    ensure_table(context.spark, context.settings, JOB_RUNS)
    ended = utc_now()
    row = {
        "job": job,
        "run_id": context.run_id,
        "status": status,
        **asdict(context.totals),
        "seconds": (ended - started).total_seconds(),
        "error": error,
        "started_at": started,
        "ended_at": ended,
        "code_version": CODE_VERSION,
    }
    append_rows(
        context.spark, pa.Table.from_pylist([row], schema=SCHEMA), context.settings, JOB_RUNS.full_name
    )
