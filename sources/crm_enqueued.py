"""analytics.crm_enqueued → whoever sends the records again: the jobs that are due, earliest first."""

from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from uuid import UUID

from headwater.errors import SetupError
from headwater.postgres import Link, writer_conninfo
from headwater.settings import Settings

KEPT = timedelta(days=30)  # jobs that are over; the audit trail has them for good
_SWEEP_EVERY_S = 600.0
_SESSION = "-c jit=off -c timezone=UTC -c lock_timeout=5s -c statement_timeout=30s"
_THERE = "SELECT to_regclass('analytics.crm_enqueued') IS NOT NULL"
_DUE = """
SELECT job_id, topic, partition, "offset" FROM analytics.crm_enqueued
WHERE status = 'waiting' AND due_at <= now() ORDER BY due_at, job_id LIMIT %s
"""
_END = """
UPDATE analytics.crm_enqueued SET status = %s, error = %s, done_at = now()
WHERE job_id = %s AND status = 'waiting'
"""
_WAITING = "SELECT count(*) FROM analytics.crm_enqueued WHERE status = 'waiting'"
_FORGET = "DELETE FROM analytics.crm_enqueued WHERE status <> 'waiting' AND done_at < now() - %s"


@dataclass(frozen=True)
class Wanted:
    """A record that is to be sent again."""

    job_id: UUID
    topic: str
    partition: int
    offset: int


class EnqueuedJobs:
    """The queue, as its one worker sees it."""

    def __init__(self, settings: Settings, query: str) -> None:
        self._link = Link(writer_conninfo(settings.postgres, query, _SESSION), "crm_enqueued")
        self._swept_at = float("-inf")

    def check(self) -> None:
        """Raise SetupError when the table is not there."""
        with self._link() as connection:
            found = connection.execute(_THERE).fetchone()
        if found != (True,):
            raise SetupError("PostgreSQL lacks analytics.crm_enqueued: run `python -m jobs migrate`")

    def due(self, limit: int) -> list[Wanted]:
        """Jobs whose time has come, the earliest first."""
        with self._link() as connection:
            return [Wanted(*row) for row in connection.execute(_DUE, (limit,)).fetchall()]

    def done(self, job_id: UUID) -> None:
        """The record was sent again."""
        self._end(job_id, "done", None)

    def failed(self, job_id: UUID, error: str) -> None:
        """It cannot be, for the reason with this code."""
        self._end(job_id, "failed", error)

    def waiting(self) -> int:
        """How many jobs wait, those that are not due among them."""
        with self._link() as connection:
            found = connection.execute(_WAITING).fetchone()
        return found[0] if found else 0

    def sweep(self) -> None:
        """Forget jobs that were over long ago. Looks now and then."""
        if monotonic() - self._swept_at < _SWEEP_EVERY_S:
            return
        with self._link() as connection:
            connection.execute(_FORGET, (KEPT,))
        self._swept_at = monotonic()

    def close(self) -> None:
        """Give back the connection."""
        self._link.close()

    def _end(self, job_id: UUID, status: str, error: str | None) -> None:
        with self._link() as connection:
            connection.execute(_END, (status, error, job_id))
