"""public.ingestion_jobs as a queue: claimed by a lease, kept by a heartbeat, ended once.

A worker may die at any point. Its job comes due again when the lease ends, and every statement of a worker
names the attempt it was given, so one that was thought dead cannot touch a job that others have by now. Every
time here is PostgreSQL's. What a worker writes of its job elsewhere in the database goes into `holding`.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from headwater.errors import LostError
from headwater.postgres import Connection, Link, writer_conninfo
from headwater.settings import Settings, Uploads
from sources.import_jobs import CANCELLED, COLUMNS, ENTER, FAILED, SAME_FILE, Counts, Job, NewJob

SESSION = "-c jit=off -c timezone=UTC -c lock_timeout=30s -c statement_timeout=60s"
_JITTER = 0.25
# What an attempt calls the things that it makes for itself: `Claim.name`.
ATTEMPT = re.compile(r"import_([0-9a-f]{32})_([0-9]{1,9})")
_DUE = """
  SELECT id FROM ingestion_jobs
  WHERE status IN ('PENDING', 'PROCESSING') AND coalesce(lease_until, next_attempt_at) <= now() AND ({which})
  ORDER BY coalesce(lease_until, next_attempt_at), created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
# A claim that ended without a word counts as an attempt: a file that kills its workers is not tried for ever.
# Not so a job that may have rows in Delta: nothing takes those back, so it only goes on, until it is done.
_MAY_END = "appending_at IS NULL"
_USED_UP = (
    f"({_MAY_END} AND cancel_requested) OR (status = 'PROCESSING' AND attempts - released >= %(attempts)s)"
)
END_LOST = f"""
UPDATE ingestion_jobs SET lease_until = NULL, finished_at = CASE WHEN {_MAY_END} THEN now() END,
  next_attempt_at = now() + %(pause)s,
  status = CASE WHEN NOT {_MAY_END} THEN 'PENDING' WHEN cancel_requested THEN 'CANCELLED' ELSE 'FAILED' END,
  error = CASE WHEN cancel_requested AND {_MAY_END} THEN NULL ELSE 'worker_lost' END
WHERE id IN ({_DUE.format(which=_USED_UP)})
"""  # noqa: S608 - text of this file only
CLAIM = f"""
UPDATE ingestion_jobs SET status = 'PROCESSING', attempts = attempts + 1, worker = %(worker)s,
  lease_until = now() + %(lease)s, started_at = coalesce(started_at, now()), error = NULL, timings = '{{}}',
  rows_read = 0, rows_valid = 0, rows_invalid = 0, rows_inserted = 0, rows_updated = 0, rows_unchanged = 0
WHERE id IN ({_DUE.format(which=f"NOT ({_USED_UP}) AND (%(only)s::uuid IS NULL OR id = %(only)s)")})
RETURNING {COLUMNS}
"""  # noqa: S608 - text of this file only
FIND = f"SELECT {COLUMNS} FROM ingestion_jobs WHERE id = %(id)s"  # noqa: S608 - names of this file only
_OURS = "id = %(id)s AND attempts = %(attempt)s AND status = 'PROCESSING'"
_COUNTS = ", ".join(f"{name} = %({name})s" for name in vars(Counts()))
BEAT = f"""
UPDATE ingestion_jobs SET lease_until = now() + %(lease)s, {_COUNTS} WHERE {_OURS}
RETURNING cancel_requested AND {_MAY_END}
"""  # noqa: S608 - names of this file only
END = f"""
UPDATE ingestion_jobs SET status = %(status)s, error = %(error)s, timings = %(timings)s::jsonb, {_COUNTS},
  lease_until = NULL, finished_at = now()
WHERE {_OURS} AND ({_MAY_END} OR %(status)s IN ('COMPLETED', 'COMPLETED_WITH_ERRORS'))
"""  # noqa: S608 - names of this file only
AGAIN = f"""
UPDATE ingestion_jobs SET error = %(error)s, lease_until = NULL, worker = NULL,
  next_attempt_at = now() + %(wait)s, released = released + %(released)s,
  status = CASE WHEN cancel_requested AND {_MAY_END} THEN 'CANCELLED' ELSE 'PENDING' END,
  finished_at = CASE WHEN cancel_requested AND {_MAY_END} THEN now() END
WHERE {_OURS} RETURNING status
"""  # noqa: S608 - names of this file only
# Holds off a claim by others, who lock the row to change it, but not this worker's heartbeat.
HOLD = f"SELECT FROM ingestion_jobs WHERE {_OURS} FOR KEY SHARE"
APPENDING = f"UPDATE ingestion_jobs SET appending_at = coalesce(appending_at, now()) WHERE {_OURS}"  # noqa: S608 - own
UNLETTERED = f"""
SELECT {COLUMNS} FROM ingestion_jobs WHERE status = 'FAILED' AND lettered_at IS NULL
ORDER BY finished_at LIMIT %(limit)s
"""  # noqa: S608 - names of this file only
LETTERED = "UPDATE ingestion_jobs SET lettered_at = now() WHERE id = ANY(%(ids)s) AND status = 'FAILED'"
WITH_FILE = f"""
SELECT {COLUMNS} FROM ingestion_jobs
WHERE finished_at IS NOT NULL AND file_gone_at IS NULL AND status = ANY(%(statuses)s)
ORDER BY finished_at LIMIT %(limit)s
"""  # noqa: S608 - names of this file only
FILE_GONE = "UPDATE ingestion_jobs SET file_gone_at = now() WHERE id = %(id)s"
KNOWN = "SELECT storage_key FROM ingestion_jobs WHERE storage_key = ANY(%(keys)s)"
AT_WORK = "SELECT id, attempts FROM ingestion_jobs WHERE id = ANY(%(ids)s) AND status = 'PROCESSING'"
WAITING = "SELECT count(*) FROM ingestion_jobs WHERE status = 'PENDING'"


class Beat(Enum):
    """What a heartbeat finds."""

    KEPT = "kept"
    CANCEL = "cancel"  # somebody wants the job to end: stop, and call `cancelled`
    LOST = "lost"  # it is not ours any more: stop, and write nothing


@dataclass(frozen=True)
class Claim:
    """A job that is this worker's while it lives; `attempt` tells this claim from any other."""

    job: Job

    @property
    def attempt(self) -> int:
        return self.job.attempts

    @property
    def name(self) -> str:
        """Of what this attempt makes for itself; no other attempt has it."""
        return f"import_{self.job.id.hex}_{self.attempt}"

    @property
    def tries(self) -> int:
        """Attempts that count: without those that were given back."""
        return self.job.attempts - self.job.released

    def parameters(self) -> dict[str, Any]:
        """Of every statement that only the claim's owner may make."""
        return {"id": self.job.id, "attempt": self.attempt}


class ImportQueue:
    """The queue as one worker sees it. Faults are those of `headwater.postgres`."""

    def __init__(self, settings: Settings, worker: str) -> None:
        self._uploads = settings.uploads
        self._link = Link(writer_conninfo(settings.postgres, worker, SESSION), "ingestion_jobs")
        self._worker = worker
        self._lease = timedelta(seconds=settings.uploads.lease_s)
        self._longest_pause = timedelta(seconds=settings.uploads.max_backoff_s)

    def enter(self, new: NewJob) -> None:
        """A job for a file that is in storage."""
        with self._link() as connection:
            connection.execute(ENTER, new.parameters())

    def same_file(self, new: NewJob) -> Job | None:
        """The newest job that imported the same bytes for the same tenant and dataset, and COMPLETED."""
        return self._first(SAME_FILE, new.parameters())

    def job(self, job_id: UUID) -> Job | None:
        """The job as it is now; None when there is none of this id."""
        return self._first(FIND, {"id": job_id})

    def claim(self, only: UUID | None = None) -> Claim | None:
        """The job that is due longest, or only that one, for nobody else until the lease ends; None: none is.

        Jobs whose last worker vanished and that may not be tried again are ended first, or have a long pause
        if they can only be done.
        """
        limits = {"attempts": self._uploads.attempts, "limit": 100}
        with self._link() as connection:
            connection.execute(END_LOST.encode(), limits | {"pause": self._longest_pause})
        values = {"worker": self._worker, "lease": self._lease, "limit": 1, "only": only}
        found = self._first(CLAIM, limits | values)
        return Claim(found) if found else None

    def beat(self, claim: Claim, counts: Counts) -> Beat:
        """Tell how far it is, and keep it for another lease."""
        values = claim.parameters() | vars(counts) | {"lease": self._lease}
        with self._link() as connection:
            found = connection.execute(BEAT.encode(), values).fetchone()
        if not found:
            return Beat.LOST
        return Beat.CANCEL if found[0] else Beat.KEPT

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[Connection]:
        """A transaction during which nobody takes the job away. LostError when somebody has."""
        with self._link() as connection, connection.transaction():
            if connection.execute(HOLD.encode(), claim.parameters()).fetchone() is None:
                raise LostError(f"job {claim.job.id} is not this worker's any more")
            yield connection

    def finish(
        self,
        claim: Claim,
        status: str,
        counts: Counts,
        timings: Mapping[str, Any],
        error: str | None = None,
        within: Connection | None = None,
    ) -> bool:
        """End it, in the transaction of `within` if given; False: it is not ours any more."""
        values = {"status": status, "error": error, "timings": json.dumps(timings)}
        values |= claim.parameters() | vars(counts)
        if within is not None:
            return within.execute(END.encode(), values).rowcount == 1
        with self._link() as connection:
            return connection.execute(END.encode(), values).rowcount == 1

    def fail(
        self, claim: Claim, error: str, counts: Counts, *, final: bool = False, wait: timedelta | None = None
    ) -> str | None:
        """It went wrong, for a reason code: PENDING again after a growing pause, FAILED when that is useless.

        Gives its status now (CANCELLED if somebody wanted that meanwhile), None: it is not ours any more.
        A job that may have rows in Delta is tried for ever.
        """
        used_up = final or claim.tries >= self._uploads.attempts
        if used_up and self.finish(claim, FAILED, counts, {}, error):
            return FAILED
        return self._again(claim, error, self._pause(claim.tries) if wait is None else wait, released=0)

    def cancelled(self, claim: Claim, counts: Counts) -> bool:
        """It was stopped because somebody asked for that."""
        return self.finish(claim, CANCELLED, counts, {})

    def appending(self, claim: Claim) -> None:
        """From here on the job may have rows in Delta. LostError when it is not ours any more."""
        with self._link() as connection:
            if connection.execute(APPENDING, claim.parameters()).rowcount != 1:
                raise LostError(f"job {claim.job.id} is not this worker's any more")

    def release(self, claim: Claim) -> str | None:
        """Give it back undone, for this worker is told to stop; that is no failed attempt."""
        return self._again(claim, None, timedelta(0), released=1)

    def unlettered(self, limit: int) -> list[Job]:
        """Failed jobs without a dead letter, oldest first."""
        with self._link() as connection, connection.cursor(row_factory=class_row(Job)) as cursor:
            return cursor.execute(UNLETTERED.encode(), {"limit": limit}).fetchall()

    def lettered(self, ids: Sequence[UUID]) -> None:
        """Their dead letters are there."""
        with self._link() as connection:
            connection.execute(LETTERED, {"ids": list(ids)})

    def with_file(self, statuses: Sequence[str], limit: int) -> list[Job]:
        """Jobs that ended in one of these states and whose file was not deleted yet, oldest first."""
        values = {"statuses": list(statuses), "limit": limit}
        with self._link() as connection, connection.cursor(row_factory=class_row(Job)) as cursor:
            return cursor.execute(WITH_FILE.encode(), values).fetchall()

    def file_gone(self, job: Job) -> None:
        """The job's file is deleted."""
        with self._link() as connection:
            connection.execute(FILE_GONE, {"id": job.id})

    def nobodys(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that no job has."""
        with self._link() as connection:
            found = connection.execute(KNOWN, {"keys": list(keys)}).fetchall()
        return set(keys) - {key for (key,) in found}

    def orphans(self, names: Iterable[str]) -> set[str]:
        """Those of the names that were given by an attempt that is over. Any other name is let be."""
        made = {name: (UUID(found[1]), int(found[2])) for name in names if (found := ATTEMPT.fullmatch(name))}
        with self._link() as connection:
            at_work = connection.execute(AT_WORK, {"ids": [job for job, _ in made.values()]}).fetchall()
        return made.keys() - {name for name, attempt in made.items() if attempt in at_work}

    def waiting(self) -> int:
        """How many jobs no worker has."""
        with self._link() as connection:
            found = connection.execute(WAITING).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Give back the connection."""
        self._link.close()

    def _first(self, statement: str, values: Mapping[str, Any]) -> Job | None:
        with self._link() as connection, connection.cursor(row_factory=class_row(Job)) as cursor:
            return cursor.execute(statement.encode(), values).fetchone()

    def _again(self, claim: Claim, error: str | None, wait: timedelta, released: int) -> str | None:
        values = claim.parameters() | {"error": error, "wait": wait, "released": released}
        with self._link() as connection:
            found = connection.execute(AGAIN.encode(), values).fetchone()
        return str(found[0]) if found else None

    def _pause(self, tries: int) -> timedelta:
        chance = 1 + random.uniform(0, _JITTER)  # noqa: S311 - spreads load, guards nothing
        return backoff(self._uploads, tries) * chance


def backoff(uploads: Uploads, tries: int) -> timedelta:
    """The pause after so many attempts: doubled each time, capped."""
    doubled = uploads.backoff_s * 2.0 ** min(tries - 1, 32)
    return timedelta(seconds=min(doubled, uploads.max_backoff_s))
