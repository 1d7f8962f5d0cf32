"""One attempt at an import: a file in storage → staged rows → silver.uploaded_rows, public.ingested_data,
public.validation_errors and ops.dead_letters, and the end of its job.

Until all rows are staged and the share of invalid ones is known, no target is touched. Then one transaction
holds the job: rows and errors in PostgreSQL, appends to Delta that carry the job's mark, the job's end.
Nothing takes appends back, so from just before them on the job can neither be cancelled nor fail.
Safe to run again after a death at any point: what is not committed is undone, what carries the mark is not
written twice, and a row that the job has counted it does not count again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice

from headwater.errors import HeadwaterError, LostError, TransientError
from headwater.failpoints import fail_at
from headwater.log import logger
from headwater.postgres import Connection, connected, writer_conninfo
from headwater.version import CODE_VERSION
from jobs.import_lease import Lease
from jobs.import_outcomes import TooManyInvalidError
from jobs.import_stage import QUERY, Stager, dataset_of, parts_of
from jobs.import_staged import Invalid, Staged
from jobs.queries import Context
from schemas.dataset import Dataset
from schemas.tables import DEAD_LETTERS, UPLOADED_ROWS
from sinks.ingested_data import Upserted, discard, take_turn, upsert
from sources.import_errors import RowError, write_errors
from sources.import_jobs import COMPLETED, COMPLETED_WITH_ERRORS, FAILED, Counts
from sources.import_queue import SESSION, Claim, ImportQueue
from sources.landing.base import Landing
from sources.scratch import readable, scratch_folder
from sources.unpack import Limits
from transformations.uploads import Origin

_NOTHING = Upserted(0, 0, 0)
_log = logger(__name__)


class Attempt:
    """A claim on its way. `counts` is how far it is; `timings` are seconds by step; `dead` are the rows that
    became dead letters, by their first reason."""

    def __init__(self, context: Context, landing: Landing, queue: ImportQueue, claim: Claim) -> None:
        self._context, self._landing, self._queue, self._claim = context, landing, queue, claim
        self._settings = context.settings
        self._job = claim.job
        self.name = claim.name
        self._stager = Stager(context, self.name)
        self._counts: Counts | None = None
        self.timings: dict[str, float] = {}
        self.dead: dict[str, int] = {}

    @property
    def counts(self) -> Counts:
        """What is known by now."""
        return self._counts or Counts(rows_read=self._stager.rows_read)

    def run(self, lease: Lease) -> None:
        """Bring the job to its end.

        Raises TooManyInvalidError, which is written down already; RefusedFileError, UnpackError,
        BrokenOffError, LostError and outages, which are not.
        """
        of, uploads = dataset_of(self._job), self._settings.uploads
        with scratch_folder(self._settings.scratch_root, self.name) as folder:
            with self._step("unpack", lease):
                files = readable(
                    self._landing,
                    self._job.storage_key,
                    self._job.format,
                    Limits.of(uploads),
                    folder,
                    lease.check,
                )
                parts = parts_of(files, of, folder, lease.check)
            with ExitStack() as held:
                with self._step("stage", lease):
                    staged = held.enter_context(self._stager.staged(parts, of, uploads.max_raw_row))
                    self._counts = counts = staged.counts()
                    errors = self._errors(staged, several=len(files) > 1)
                decided = self._job.appending_at is not None  # by an attempt that died behind its appends
                fine = of.tolerates(counts.rows_read, counts.rows_invalid, uploads.max_invalid_share)
                if not decided and not fine:
                    self._refuse(counts, errors, lease)
                self._write(staged, counts, errors, self._origin(of), lease)

    def interrupt(self) -> None:
        """Have its work end with a fault, as soon as may be; from any thread."""
        self._stager.interrupt()

    def forget(self) -> None:
        """Leave nothing of it in PostgreSQL's staging; if that cannot be done now, a sweep does it."""
        if self._counts is not None:  # what the upsert did is undone
            self._counts = replace(self._counts, rows_inserted=0, rows_updated=0, rows_unchanged=0)
        try:
            with connected(self._conninfo, self.name) as connection:
                discard(connection, self.name)
        except HeadwaterError as fault:
            _log.warning("staging_not_dropped", job_id=str(self._job.id), why=str(fault))

    @property
    def _conninfo(self) -> str:
        return writer_conninfo(self._settings.postgres, QUERY, SESSION)

    def _errors(self, staged: Staged, *, several: bool) -> list[RowError]:
        most = self._settings.uploads.max_errors
        rows = staged.invalid(most)
        return list(islice((error for row in rows for error in row_errors(row, several=several)), most))

    def _refuse(self, counts: Counts, errors: Sequence[RowError], lease: Lease) -> None:
        """The job's end, with the errors that are its reason; nothing else is written."""
        with self._queue.holding(self._claim) as connection:
            lease.let_finish()
            self._write_errors(connection, errors)
            self._finish(connection, lease, FAILED, "too_many_invalid")
        raise TooManyInvalidError(counts.rows_read, counts.rows_invalid)

    def _write(
        self, staged: Staged, counts: Counts, errors: Sequence[RowError], origin: Origin, lease: Lease
    ) -> None:
        if counts.rows_valid:
            with self._step("load", lease):
                staged.load(self._conninfo, self.name)
        fail_at(QUERY, "before_write")
        lease.check()
        with self._queue.holding(self._claim) as connection:
            # Whoever only waits may still be told to stop.
            take_turn(connection, self._job.tenant_id, self._job.dataset, lease.check)
            lease.let_finish()
            with self._step("upsert", lease):
                self._upsert(connection, counts)
                self._write_errors(connection, errors)
            fail_at(QUERY, "in_transaction")
            lease.no_way_back()
            with self._step("append", lease):
                self._append(staged, counts, origin)
            fail_at(QUERY, "after_write")
            status = COMPLETED_WITH_ERRORS if counts.rows_invalid else COMPLETED
            self._finish(connection, lease, status, None)
        fail_at(QUERY, "before_commit")

    def _upsert(self, connection: Connection, counts: Counts) -> None:
        """What was loaded must be what is staged: another worker's late task may have been there, too."""
        done = _NOTHING
        if counts.rows_valid:
            done = upsert(connection, self.name, self._job.id, self._job.tenant_id, self._job.dataset)
        if done.inserted + done.updated + done.unchanged != counts.rows_valid:
            raise TransientError("PostgreSQL does not hold the rows that were sent; they are sent again")
        self._counts = replace(
            counts,
            rows_inserted=done.inserted,
            rows_updated=done.updated,
            rows_unchanged=done.unchanged,
        )

    def _append(self, staged: Staged, counts: Counts, origin: Origin) -> None:
        """Silver and dead letters, each once for this job."""
        application = f"import.{self._job.id}"
        if counts.rows_valid:
            staged.append_silver(origin, application)
            self._context.written.update((UPLOADED_ROWS.full_name,))
        if counts.rows_invalid:
            self.dead = staged.first_reasons()
            staged.append_letters(origin, application)
            self._context.written.update((DEAD_LETTERS.full_name,))

    def _write_errors(self, connection: Connection, errors: Sequence[RowError]) -> None:
        uploads = self._settings.uploads
        write_errors(connection, self._job.id, errors, uploads.max_errors, uploads.max_raw_row)

    def _finish(self, connection: Connection, lease: Lease, status: str, error: str | None) -> None:
        """Its end, in the transaction. A heartbeat would wait for that from now on."""
        lease.still()
        if not self._queue.finish(self._claim, status, self.counts, self.timings, error, within=connection):
            raise LostError(f"job {self._job.id} is not this worker's any more")

    def _origin(self, of: Dataset) -> Origin:
        job = self._job
        return Origin(str(job.id), job.tenant_id, job.dataset, of.version, job.created_at, CODE_VERSION)

    @contextmanager
    def _step(self, name: str, lease: Lease) -> Iterator[None]:
        """Not begun when the import is to end; its seconds are kept."""
        lease.check()
        began = time.monotonic()
        yield
        self.timings[name] = round(time.monotonic() - began, 3)


def row_errors(row: Invalid, *, several: bool) -> Iterator[RowError]:
    """The errors of a staged row; the first has the row. `several`: its file is one of an archive's."""
    raw = None if row["raw"] is None else bytes(row["raw"]).decode("utf-8", "replace")
    where = f"file {row['member'] + 1}: " if several else ""
    for number, reason in enumerate(row["reasons"]):
        kept = raw if number == 0 else None
        yield RowError(row["line"], reason["field"] or None, reason["code"], where + reason["message"], kept)
