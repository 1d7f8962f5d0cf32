"""public.ingestion_jobs as the API's role may see it. Each statement names the tenant."""

from typing import Any
from uuid import UUID

from psycopg.rows import class_row, dict_row

from api.database import Database
from api.problems import Problem
from api.query import place
from headwater.clock import iso
from sources.import_jobs import COLUMNS, ENTER, SAME_FILE, Job, NewJob

_TABLE = "ingestion_jobs"
_Place = tuple[int, UUID] | None

ONE = f"SELECT {COLUMNS} FROM ingestion_jobs WHERE id = %(id)s AND tenant_id = %(tenant_id)s"  # noqa: S608 - own names
# A job is before another in the list when it is newer. The place is a job's time in µs, and its id.
LIST = f"""
SELECT {COLUMNS} FROM ingestion_jobs
WHERE tenant_id = %(tenant_id)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(micros)s::bigint IS NULL OR (created_at, id)
    < (timestamptz 'epoch' + %(micros)s * interval '1 microsecond', %(after)s::uuid))
ORDER BY created_at DESC, id DESC LIMIT %(limit)s
"""  # noqa: S608 - names of this file only
# By how many rows of the job were shown, not by the id of the last: ids are one sequence for all tenants, and
# would tell each how many rows the others have. A job keeps `uploads.max_errors` at most.
ERRORS = """
SELECT line, column_name AS "column", code, message, raw_row FROM validation_errors
WHERE job_id = %(id)s ORDER BY id OFFSET %(after)s LIMIT %(limit)s
"""
# A job that waits ends at once; one that runs is asked to, and ends at its worker's next heartbeat. One whose
# rows are on their way to the tables is past that: it will be done.
CANCEL = f"""
UPDATE ingestion_jobs SET cancel_requested = true,
  status = CASE WHEN status = 'PENDING' AND appending_at IS NULL THEN 'CANCELLED' ELSE status END,
  finished_at = CASE WHEN status = 'PENDING' AND appending_at IS NULL THEN now() END
WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND status IN ('PENDING', 'PROCESSING')
RETURNING {COLUMNS}
"""  # noqa: S608 - names of this file only


class Jobs:
    """Enters, finds and cancels jobs. Everything raises Problem 503 while PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reachable(self) -> bool:
        """Whether PostgreSQL takes jobs now."""
        try:
            await self.check()
        except Problem:
            return False
        return True

    async def check(self) -> None:
        """Ask before a large body is read for nothing."""
        async with self._database.connection(_TABLE) as connection:
            await connection.execute("SELECT FROM ingestion_jobs LIMIT 0")

    async def enter(self, new: NewJob) -> None:
        """A job for a file that is in storage."""
        async with self._database.connection(_TABLE) as connection:
            await connection.execute(ENTER, new.parameters())

    async def same_file(self, new: NewJob) -> Job | None:
        """The newest job that imported the same bytes, read the same way, and COMPLETED."""
        found = await self._jobs(SAME_FILE, new.parameters())
        return found[0] if found else None

    async def find(self, tenant_id: str, job_id: UUID) -> Job:
        """Raises Problem 404 for a job that is not there, or is another tenant's."""
        found = await self._jobs(ONE, {"tenant_id": tenant_id, "id": job_id})
        if not found:
            raise Problem(404, "not_found")
        return found[0]

    async def newest(self, tenant_id: str, status: str | None, after: _Place, limit: int) -> list[Job]:
        """Jobs, newest first, from behind the place of one."""
        micros, job_id = after or (None, None)
        values = {"status": status, "micros": micros, "after": job_id, "limit": limit}
        return await self._jobs(LIST, values | {"tenant_id": tenant_id})

    async def errors(self, job: Job, after: int, limit: int) -> list[dict[str, Any]]:
        """Refused rows of the job, in the order of the file, without the first `after`."""
        async with self._database.connection(_TABLE) as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(ERRORS, {"id": job.id, "after": after, "limit": limit})
            return await cursor.fetchall()

    async def cancel(self, tenant_id: str, job_id: UUID) -> Job:
        """The job, cancelled or about to be. Raises Problem 404, or 409 for one that has ended otherwise."""
        changed = await self._jobs(CANCEL, {"tenant_id": tenant_id, "id": job_id})
        if changed:
            return changed[0]
        found = await self.find(tenant_id, job_id)
        if found.status != "CANCELLED":
            raise Problem(409, "job_ended")
        return found

    async def _jobs(self, statement: str, values: dict[str, Any]) -> list[Job]:
        async with self._database.connection(_TABLE) as connection:
            cursor = connection.cursor(row_factory=class_row(Job))
            await cursor.execute(statement.encode(), values)
            return await cursor.fetchall()


def shown(job: Job) -> dict[str, Any]:
    """A job as its owner sees it: not where its file lies."""
    return {
        "job_id": str(job.id),
        "status": job.status,
        "dataset": job.dataset,
        "file": job.file_label,
        "format": job.format,
        "options": job.options,
        "attempts": job.attempts,
        "rows_read": job.rows_read,
        "rows_valid": job.rows_valid,
        "rows_invalid": job.rows_invalid,
        "rows_inserted": job.rows_inserted,
        "rows_updated": job.rows_updated,
        "rows_unchanged": job.rows_unchanged,
        "bytes": job.bytes,
        "sha256": job.sha256,
        "error": job.error,
        "timings": job.timings,
        "cancel_requested": job.cancel_requested,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at) if job.started_at else None,
        "finished_at": iso(job.finished_at) if job.finished_at else None,
    }


def place_of(job: Job) -> str:
    """The cursor behind this job in the list."""
    return place(job.created_at, job.id)
