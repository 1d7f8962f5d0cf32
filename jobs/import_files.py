"""import-files: uploaded files → silver.uploaded_rows, public.ingested_data and their errors, a job each.

Several workers share the queue: a claim is a lease, so there is no other lock. Safe to run again because an
attempt is (jobs/import_attempt.py), and because a job that was not ended comes due again.
"""

import threading
import time
from socket import gethostname
from uuid import UUID, uuid4

from headwater.errors import HeadwaterError, LostError, SetupError
from headwater.log import logger
from headwater.metrics import DEAD, EVENTS, IMPORTS
from headwater.postgres import connected, writer_conninfo
from headwater.tables import ensure_table
from jobs.faults import translate
from jobs.import_attempt import Attempt
from jobs.import_lease import Lease, Why
from jobs.import_letters import write_letters
from jobs.import_outcomes import TooManyInvalidError, outcome
from jobs.import_stage import QUERY, sweep_staging
from jobs.queries import Context
from schemas.tables import DEAD_LETTERS, UPLOADED_ROWS
from sinks.ingested_data import discard_orphans
from sources import scratch
from sources.import_jobs import CANCELLED, COMPLETED, COMPLETED_WITH_ERRORS, FAILED, Job
from sources.import_queue import SESSION, Claim, ImportQueue
from sources.landing.registry import landing_of
from sources.zip_directory import UnpackError
from transformations.uploads import STAGE, STREAM

LOOK_EVERY_S = 1.0
SWEEP_EVERY_S = 3600.0
# Ends of a job after which its file goes, unless uploads.keep_files is one of these.
_GOES_UNLESS = {
    COMPLETED: ("all",),
    COMPLETED_WITH_ERRORS: ("all",),
    FAILED: ("all", "failed"),
    CANCELLED: ("all", "failed"),
}
_log = logger(__name__)


class ImportFiles:
    """A worker: one job after the other. `only`: that job alone, for as long as it takes."""

    name = QUERY
    every_s = LOOK_EVERY_S

    def __init__(self, context: Context, stopping: threading.Event, only: UUID | None = None) -> None:
        self._context, self._settings = context, context.settings
        self._stopping = stopping
        self._only = only
        self._worker = f"{gethostname()[:64]}-{uuid4().hex[:12]}"
        self._queue = ImportQueue(context.settings, self._worker)
        self._landing = landing_of(context.settings)
        self._swept: float | None = None

    def prepare(self) -> None:
        """Create the tables that are missing."""
        for table in (UPLOADED_ROWS, DEAD_LETTERS):
            ensure_table(self._context.spark, self._settings, table)

    def step(self) -> int:
        """Do the job that is due longest, or write the letters of those that failed: how many."""
        self._sweep()
        done = write_letters(self._context, self._queue)
        claim = self._queue.claim(self._only)
        if claim is not None:
            self._import(claim)
            return done + 1
        if self._only is None or self._ended(self._only):
            return done
        self._stopping.wait(LOOK_EVERY_S)  # another worker has it, or it waits for its next attempt
        return 1

    def close(self) -> None:
        """Give back the connection."""
        self._queue.close()

    def _import(self, claim: Claim) -> None:
        _log.info("import_began", job_id=str(claim.job.id), attempt=claim.attempt, bytes=claim.job.bytes)
        attempt = Attempt(self._context, self._landing, self._queue, claim)
        lease = Lease(
            ImportQueue(self._settings, self._worker),
            claim,
            self._settings.uploads.lease_s,
            lambda: attempt.counts,
            self._stopping,
            attempt.interrupt,
        )
        try:
            with lease:
                attempt.run(lease)
        except Exception as fault:  # an edge: every end of an import becomes a state of its job
            self._broke(attempt, claim, lease.why, fault)
        else:
            self._told(attempt, claim, COMPLETED_WITH_ERRORS if attempt.counts.rows_invalid else COMPLETED)

    def _broke(self, attempt: Attempt, claim: Claim, why: Why | None, fault: Exception) -> None:
        """The job ends, is given back, or is tried again later. Raises what is wrong with this worker."""
        if isinstance(fault, TooManyInvalidError):
            self._told(attempt, claim, FAILED, "too_many_invalid")
        elif why is Why.LOST or isinstance(fault, LostError):
            self._told(attempt, claim, None)
        else:
            attempt.forget()
            self._put_back(attempt, claim, why, fault)

    def _put_back(self, attempt: Attempt, claim: Claim, why: Why | None, fault: Exception) -> None:
        if why is Why.CANCELLED:
            self._told(attempt, claim, CANCELLED if self._queue.cancelled(claim, attempt.counts) else None)
        elif why is Why.STOPPING:
            self._told(attempt, claim, self._queue.release(claim))
        else:
            ours = fault if isinstance(fault, UnpackError) else translate(fault) or fault
            found = outcome(ours)
            _log.error("import_failed", job_id=str(claim.job.id), code=found.code, exc_info=fault)
            status = self._queue.fail(claim, found.code, attempt.counts, final=found.final)
            self._told(attempt, claim, status, found.code)
            if isinstance(ours, SetupError) and not found.final:
                raise ours
            if found.code == "unexpected":  # fails when the JVM is gone: then no other job may be taken
                self._context.spark.sparkContext.statusTracker().getActiveJobsIds()

    def _told(self, attempt: Attempt, claim: Claim, status: str | None, error: str | None = None) -> None:
        """Log and count how an attempt ended (None: others have the job), and drop the file if it may go."""
        counts = attempt.counts
        done = status in (COMPLETED, COMPLETED_WITH_ERRORS)
        _log.info(
            "import_ended", job_id=str(claim.job.id), attempt=claim.attempt, status=status or "lost",
            error=error, seconds=attempt.timings, **vars(counts),
        )  # fmt: skip
        IMPORTS.labels(status or "lost").inc()
        if done:
            EVENTS.labels(QUERY, STREAM, "silver").inc(counts.rows_valid)
            EVENTS.labels(QUERY, STREAM, "dead").inc(counts.rows_invalid)
            for reason, rows in attempt.dead.items():
                DEAD.labels(STREAM, STAGE, reason).inc(rows)
            self._context.totals.add(
                rows_in=counts.rows_read,
                rows_out=counts.rows_valid,
                duplicate=counts.rows_updated + counts.rows_unchanged,
                dead=counts.rows_invalid,
            )
        if status in _GOES_UNLESS and self._settings.uploads.keep_files not in _GOES_UNLESS[status]:
            self._drop(claim.job)

    def _drop(self, job: Job) -> None:
        """A file that stays for an outage harms nobody."""
        try:
            self._landing.delete(job.storage_key)
        except HeadwaterError as fault:
            _log.warning("upload_not_deleted", job_id=str(job.id), reason=str(fault))

    def _ended(self, job_id: UUID) -> bool:
        job = self._queue.job(job_id)
        return job is None or job.ended

    def _sweep(self) -> None:
        """What killed uploads and workers have left, now and then."""
        now = time.monotonic()
        if self._swept is not None and now - self._swept < SWEEP_EVERY_S:
            return
        self._swept = now
        removed = self._landing.sweep() + scratch.sweep(self._settings.scratch_root)
        removed += sweep_staging(self._context)
        conninfo = writer_conninfo(self._settings.postgres, self._worker, SESSION)
        with connected(conninfo, "staging of imports") as connection:
            removed += discard_orphans(connection)
        if removed:
            _log.info("import_leftovers_removed", count=removed)
