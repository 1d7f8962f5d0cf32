"""Jobs of uploaded files: one, all, refused rows, progress as it happens, an end by request."""

from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api import errors_csv, progress
from api.jobs import place_of, shown
from api.models import JobModel, JobsModel, RowErrorsModel
from api.openapi_uploads import CANCEL_REFUSALS, CSV, ERRORS, EVENTS, JOB, JOB_REFUSALS, JOBS, LIST_REFUSALS
from api.query import (
    CURSOR_OF_JOBS,
    CURSOR_OF_ROWS,
    DEFAULT_LIMIT,
    FORMAT,
    LIMIT,
    STATUS,
    asked,
    job_id,
)
from api.security import JOBS_READ, UPLOAD_WRITE
from api.services import services
from sources.import_jobs import CANCELLED, Job

JSON = "application/json"
_LIST = {"status": STATUS, "cursor": CURSOR_OF_JOBS, "limit": LIMIT}
_ERRORS = {"cursor": CURSOR_OF_ROWS, "limit": LIMIT, "format": FORMAT}
router = APIRouter(tags=["jobs"])


@router.get("/jobs", response_model=JobsModel, responses=LIST_REFUSALS, openapi_extra=JOBS)
async def newest(request: Request) -> Response:
    """The tenant's jobs, newest first, a page at a time."""
    room = services(request)
    caller = await room.admit(request, JOBS_READ)
    wanted = asked(request, _LIST)
    limit = wanted.get("limit", DEFAULT_LIMIT)
    found = await room.jobs.newest(caller.tenant_id, wanted.get("status"), wanted.get("cursor"), limit + 1)
    jobs, more = found[:limit], len(found) > limit
    cursor = place_of(jobs[-1]) if more else None
    return _json({"jobs": [shown(job) for job in jobs], "next_cursor": cursor})


@router.get("/jobs/{job_id}", response_model=JobModel, responses=JOB_REFUSALS, openapi_extra=JOB)
async def one(request: Request) -> Response:
    """A job as it is now."""
    job = await _found(request)
    asked(request, {})
    return _json(shown(job))


@router.get(
    "/jobs/{job_id}/errors",
    response_model=RowErrorsModel,
    responses={200: CSV, **JOB_REFUSALS},
    openapi_extra=ERRORS,
)
async def errors(request: Request) -> Response:
    """Refused rows: a page as JSON, or CSV, which has all of them unless a limit is given."""
    job = await _found(request)
    jobs = services(request).jobs
    wanted = asked(request, _ERRORS)
    after = wanted.get("cursor", 0)
    if _wants_csv(request, wanted):
        return await errors_csv.download(jobs, job, after, wanted.get("limit"))
    limit = wanted.get("limit", DEFAULT_LIMIT)
    found = await jobs.errors(job, after, limit + 1)
    page, more = found[:limit], len(found) > limit
    rows = [{name: error[name] for name in errors_csv.COLUMNS} for error in page]
    return _json({"errors": rows, "next_cursor": str(after + limit) if more else None})


@router.get("/jobs/{job_id}/events", responses=JOB_REFUSALS, openapi_extra=EVENTS)
async def events(request: Request) -> Response:
    """Follow a job until it ends."""
    room = services(request)
    caller = await room.admit(request, JOBS_READ)
    asked(request, {})
    job = await room.jobs.find(caller.tenant_id, job_id(request))
    return await progress.follow(request, room.jobs, job, room.watching, caller.credential)


@router.post("/jobs/{job_id}/cancel", response_model=JobModel, responses=CANCEL_REFUSALS, openapi_extra=JOB)
async def cancel(request: Request) -> Response:
    """End a job: 200 when it has, 202 when its worker is asked to; rows that are being written then stay."""
    room = services(request)
    caller = await room.admit(request, UPLOAD_WRITE)
    asked(request, {})
    job = await room.jobs.cancel(caller.tenant_id, job_id(request))
    return _json(shown(job), 200 if job.status == CANCELLED else 202)


async def _found(request: Request) -> Job:
    room = services(request)
    caller = await room.admit(request, JOBS_READ)
    return await room.jobs.find(caller.tenant_id, job_id(request))


def _wants_csv(request: Request, wanted: dict[str, Any]) -> bool:
    accepted = request.headers.get("accept", "").partition(",")[0].partition(";")[0].strip().lower()
    return bool(wanted.get("format", "csv" if accepted == "text/csv" else "json") == "csv")


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type=JSON)
