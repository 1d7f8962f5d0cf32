"""import-files: uploaded files → silver.uploaded_rows, public.ingested_data and their errors, a job each.

Several workers share the queue: a claim is a lease, so there is no other lock. Safe to run again because an
attempt is (jobs/import_attempt.py), and because a job that was not ended comes due again.
"""

import threading
import time
from socket import gethostname
from uuid import UUID, uuid4

from headwater.errors import LostError, QualityError, SetupError
from headwater.log import logger
from headwater.metrics import DEAD, EVENTS, IMPORTS, PENDING
from headwater.tables import ensure_table
from jobs.compact import compact_tables
from jobs.faults import translate
from jobs.import_attempt import Attempt
from jobs.import_lease import BrokenOffError, Lease, Why
from jobs.import_leftovers import drop_files, sweep
from jobs.import_letters import write_letters
from jobs.import_outcomes import WORTH_A_RETRY, TooManyInvalidError, outcome
from jobs.import_stage import QUERY
from jobs.queries import Context
from schemas.tables import DEAD_LETTERS, UPLOADED_ROWS
from sources.import_jobs import CANCELLED, COMPLETED, COMPLETED_WITH_ERRORS, FAILED
from sources.import_queue import Claim, ImportQueue
from sources.landing.registry import landing_of
from sources.zip_directory import UnpackError
from transformations.uploads import STAGE, STREAM

LOOK_EVERY_S = 1.0
SWEEP_EVERY_S = 3600.0
COUNT_EVERY_S = 15.0
DROP_AGAIN_S = 60.0  # after a file that could not be deleted
COMPACT_EVERY = 200  # jobs, each a file of the tables
SMALL_BYTES = 32 << 20
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
        self._drop_again = self._sweep_again = self._count_again = 0.0
        self._done_since, self._compacted = 0, False

    def prepare(self) -> None:
        """Create the tables that are missing."""
        for table in (UPLOADED_ROWS, DEAD_LETTERS):
            ensure_table(self._context.spark, self._settings, table)

    def step(self) -> int:
        """Do the job that is due longest, or write the letters of those that failed: how many."""
        self._clear_up()
        done = write_letters(self._context, self._queue)
        claim = self._queue.claim(self._only)
        if claim is not None:
            self._import(claim)
        self._compact(idle=claim is None)
        if claim is not None:
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
            attempt.forget()
            self._broke(attempt, claim, fault)
        else:
            self._told(attempt, claim, COMPLETED_WITH_ERRORS if attempt.counts.rows_invalid else COMPLETED)

    def _broke(self, attempt: Attempt, claim: Claim, fault: Exception) -> None:
        """The job ends, is given back, or is tried again later. Raises what is wrong with this worker."""
        match fault:
            case TooManyInvalidError():
                self._told(attempt, claim, FAILED, "too_many_invalid")
            case LostError() | BrokenOffError(why=Why.LOST):
                self._told(attempt, claim, None)
            case BrokenOffError(why=Why.CANCELLED):
                done = self._queue.cancelled(claim, attempt.counts)
                self._told(attempt, claim, CANCELLED if done else None)
            case BrokenOffError():
                self._told(attempt, claim, self._queue.release(claim))
            case _:
                self._failed(attempt, claim, fault)

    def _failed(self, attempt: Attempt, claim: Claim, fault: Exception) -> None:
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
        """Log and count how an attempt ended (None: others have the job)."""
        counts = attempt.counts
        done = status in (COMPLETED, COMPLETED_WITH_ERRORS)
        self._done_since += done
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

    def _ended(self, job_id: UUID) -> bool:
        """Raises QualityError for a job that nobody can end: not before, and not behind its appends."""
        job = self._queue.job(job_id)
        if job is not None and job.appending_at and job.error and job.error not in WORTH_A_RETRY:
            raise QualityError(
                f"job {job_id} can only be done, and fails: {job.error}; see docs/operations.md"
            )
        return job is None or job.ended

    def _compact(self, *, idle: bool) -> None:
        """After many jobs, and once when nothing is due."""
        if self._done_since >= COMPACT_EVERY or (idle and not self._compacted):
            self._done_since, self._compacted = 0, True
            tables = (UPLOADED_ROWS, DEAD_LETTERS)
            compact_tables(self._settings, tables, SMALL_BYTES, COMPACT_EVERY)

    def _clear_up(self) -> None:
        """Files of jobs that are over; now and then what was left by killed uploads and workers; a count."""
        now = time.monotonic()
        if now >= self._drop_again and not drop_files(self._context, self._landing, self._queue):
            self._drop_again = now + DROP_AGAIN_S
        if now >= self._sweep_again:
            self._sweep_again = now + SWEEP_EVERY_S
            sweep(self._context, self._landing, self._queue)
        if now >= self._count_again:
            self._count_again = now + COUNT_EVERY_S
            PENDING.labels(QUERY).set(self._queue.waiting())
