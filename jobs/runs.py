"""ops.job_runs: one row per finished run, so that a run with the same name is done once."""

from datetime import datetime

from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.locks import commit_lock
from headwater.tables import ensure_table, exists, read_table, table_path
from headwater.version import CODE_VERSION
from jobs.queries import Context
from schemas.tables import JOB_RUNS


def finished_before(context: Context, job: str) -> bool:
    """Whether a run of this job with this run id ended well before."""
    if not exists(context.spark, context.settings, JOB_RUNS.full_name):
        return False
    runs = read_table(context.spark, context.settings, JOB_RUNS.full_name)
    same = runs.where((F.col("job") == job) & (F.col("run_id") == context.run_id) & (F.col("status") == "ok"))
    return not same.isEmpty()


def record_run(context: Context, job: str, started: datetime, status: str, error: str | None) -> None:
    """Append the run."""
    ensure_table(context.spark, context.settings, JOB_RUNS)
    totals = context.totals
    ended = utc_now()
    row = (
        job,
        context.run_id,
        status,
        totals.rows_in,
        totals.rows_out,
        totals.duplicate,
        totals.dead,
        totals.no_consent,
        totals.erased,
        (ended - started).total_seconds(),
        error,
        started,
        ended,
        CODE_VERSION,
    )
    frame = context.spark.createDataFrame([row], JOB_RUNS.columns).coalesce(1)
    with commit_lock(context.settings.lake_root, JOB_RUNS.full_name):
        frame.write.format("delta").mode("append").save(table_path(context.settings, JOB_RUNS.full_name))
