"""Refused rows as CSV for people with spreadsheets: no cell of it is taken for a formula."""

import csv
import io
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from api.jobs import Jobs
from api.query import MAX_LIMIT
from sources.import_jobs import Job

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
COLUMNS = ("line", "column", "code", "message", "raw_row")
# What makes a spreadsheet compute, also in its full-width form, and the blanks that it skips before.
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_GUARD = "'"


async def download(jobs: Jobs, job: Job, after: int, limit: int | None) -> Response:
    """An answer without the first `after` rows: `limit` of the others, or all. Raises Problem 503."""
    await jobs.check()  # once the answer has begun, nothing can be refused any more
    return StreamingResponse(_pages(jobs, job, after, limit), media_type=MEDIA_TYPE, headers=_attached(job))


def heading() -> bytes:
    """The first line."""
    return _lines([COLUMNS])


def lines(errors: Iterable[Mapping[str, Any]]) -> bytes:
    """A line for each; null is an empty cell."""
    return _lines([harmless(error[name]) for name in COLUMNS] for error in errors)


def harmless(value: Any) -> str:
    """The value as text that no spreadsheet computes: what could be a formula begins with an apostrophe."""
    text = "" if value is None else str(value)
    return _GUARD + text if text.lstrip(" ").startswith(_STARTS) else text


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    held = io.StringIO()
    csv.writer(held, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return held.getvalue().encode()


async def _pages(jobs: Jobs, job: Job, after: int, limit: int | None) -> AsyncIterator[bytes]:
    """CSV without the first `after` rows: `limit` of the others, or all, never more than a page in memory."""
    yield heading()
    while page := await jobs.errors(job, after, limit or MAX_LIMIT):
        yield lines(page)
        after += len(page)
        if limit:
            return


def _attached(job: Job) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="errors-{job.id}.csv"', "Vary": "Accept"}
