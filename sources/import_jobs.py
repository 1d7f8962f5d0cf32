"""public.ingestion_jobs as both sides know it: the API, which enters jobs, and the workers, which do them."""

import json
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID

PENDING, PROCESSING = "PENDING", "PROCESSING"
COMPLETED, COMPLETED_WITH_ERRORS = "COMPLETED", "COMPLETED_WITH_ERRORS"
FAILED, CANCELLED = "FAILED", "CANCELLED"
OPEN: Final = (PENDING, PROCESSING)
STATUSES: Final = (PENDING, PROCESSING, COMPLETED, COMPLETED_WITH_ERRORS, FAILED, CANCELLED)
DATASET = r"[a-z][a-z0-9_.-]{0,62}"

ENTER = """
INSERT INTO ingestion_jobs
  (id, tenant_id, dataset, storage_key, file_label, format, options, bytes, sha256)
VALUES (%(id)s, %(tenant_id)s, %(dataset)s, %(storage_key)s, %(file_label)s, %(format)s, %(options)s::jsonb,
  %(bytes)s, %(sha256)s)
"""


@dataclass(frozen=True)
class NewJob:
    """A file that is in storage and waits to be imported."""

    id: UUID
    tenant_id: str
    dataset: str
    storage_key: str
    file_label: str | None
    format: str
    options: dict[str, Any]
    bytes: int
    sha256: str

    def parameters(self) -> dict[str, Any]:
        """Of ENTER and SAME_FILE."""
        return vars(self) | {"options": json.dumps(self.options, sort_keys=True)}


@dataclass(frozen=True)
class Counts:
    """Rows of a file, as far as it was read."""

    rows_read: int = 0
    rows_valid: int = 0
    rows_invalid: int = 0
    rows_inserted: int = 0
    rows_updated: int = 0
    rows_unchanged: int = 0


@dataclass(frozen=True)
class Job:
    """A row of the table, without what only the queue needs."""

    id: UUID
    tenant_id: str
    dataset: str
    status: str
    attempts: int
    released: int
    storage_key: str
    file_label: str | None
    format: str
    options: dict[str, Any]
    bytes: int
    sha256: str
    rows_read: int
    rows_valid: int
    rows_invalid: int
    rows_inserted: int
    rows_updated: int
    rows_unchanged: int
    error: str | None
    timings: dict[str, Any]
    cancel_requested: bool
    appending_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status not in OPEN


COLUMNS: Final = ", ".join(field.name for field in fields(Job))
# Only a job that ended well stands for its file: a failed one, or one that is still running, never blocks it.
SAME_FILE = f"""
SELECT {COLUMNS} FROM ingestion_jobs
WHERE tenant_id = %(tenant_id)s AND dataset = %(dataset)s AND sha256 = %(sha256)s
  AND options = %(options)s::jsonb AND status = 'COMPLETED'
ORDER BY finished_at DESC LIMIT 1
"""  # noqa: S608 - names of this file only
