"""The demo's upload: a file of contacts by POST /upload, imported by a worker of its own, counted everywhere.

Some rows are wrong on purpose. What was sent must be what the job says, what PostgreSQL has, what silver has
and what was told of wrong rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from headwater.delta_log import read
from headwater.errors import HeadwaterError, TransientError
from headwater.settings import Settings
from headwater.tables import table_path
from local.demo_watch import api_url, one_row
from schemas.tables import UPLOADED_ROWS

ROWS, WRONG_EVERY = 8_000, 80
_HEADER = "contact_id,email,first_name,last_name,country,balance,newsletter,updated_at\n"
_TIMEOUT_S = 30.0
_COUNTED = """
SELECT (SELECT count(*) FROM ingested_data WHERE first_job = %(job)s),
  (SELECT count(DISTINCT line) FROM validation_errors WHERE job_id = %(job)s)
"""


@dataclass(frozen=True)
class Upload:
    """A file that was taken, and what became of it. `wrong` rows were sent so."""

    job_id: str
    sent: int
    wrong: int
    job: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    in_silver: int = 0
    told: int = 0

    @property
    def ended(self) -> bool:
        return bool(self.job.get("finished_at"))

    @property
    def faults(self) -> list[str]:
        """What does not add up."""
        valid = self.sent - self.wrong
        wanted = {
            "status": ("COMPLETED_WITH_ERRORS", self.job.get("status")),
            "rows read": (self.sent, self.job.get("rows_read")),
            "rows inserted": (valid, self.job.get("rows_inserted")),
            "rows in PostgreSQL": (valid, self.rows),
            "rows in silver": (valid, self.in_silver),
            "wrong rows told of": (self.wrong, self.told),
        }
        return [
            f"upload: {name}: {found}, expected {want}"
            for name, (want, found) in wanted.items()
            if found != want
        ]


def send(settings: Settings, key: str, run: str) -> Upload:
    """POST the run's file. Raises HeadwaterError when it is not taken."""
    body = "".join([_HEADER, *_lines(run)]).encode()
    path = f"/upload?dataset=contacts&name={run}contacts.csv"
    answer = _asked(settings, key, "POST", path, body, {"Content-Type": "text/csv"})
    return Upload(answer["job_id"], ROWS, len(range(0, ROWS, WRONG_EVERY)))


def look(settings: Settings, key: str, upload: Upload) -> Upload:
    """How far the job is; once it has ended, also what the tables have of it."""
    job = _asked(settings, key, "GET", f"/jobs/{upload.job_id}")
    found = Upload(upload.job_id, upload.sent, upload.wrong, job)
    if not found.ended:
        return found
    rows, told = one_row(settings, _COUNTED, {"job": upload.job_id})
    silver = read(table_path(settings, UPLOADED_ROWS.full_name), ["source_offset"], ("job_id", upload.job_id))
    return Upload(upload.job_id, upload.sent, upload.wrong, job, rows, len(silver), told)


def _lines(run: str) -> Iterator[str]:
    """Every so manyth without an address."""
    for number in range(ROWS):
        email = "nobody" if number % WRONG_EVERY == 0 else f"{run}{number}@example.com"
        yield (
            f"{number},{email},Zoë,Müller,DE,{number % 900}.50,{'true' if number % 3 else 'false'},"
            "2026-03-01T12:00:00Z\n"
        )


def _asked(
    settings: Settings,
    key: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    connection = HTTPConnection(urlsplit(api_url(settings)).netloc, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, body, {"X-API-Key": key} | (headers or {}))
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, HTTPException) as fault:
        raise TransientError(f"the API does not answer {method} {path.partition('?')[0]}: {fault}") from None
    finally:
        connection.close()
    if answer.status >= 300:
        raise HeadwaterError(f"the API answers {method} {path.partition('?')[0]} with {answer.status}")
    return dict(json.loads(text))
