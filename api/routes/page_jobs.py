"""/uploads/jobs/{job_id} for people: an import as it goes on, its refused rows, and its end by request."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api import errors_csv, progress
from api.page.areas import UPLOADS
from api.page.forgery import FIELD, check_form
from api.page.form import fields_of
from api.page.render import PageRoute, render
from api.page.visit import Visitor, admitted
from api.query import CURSOR_OF_ROWS, FLAG, asked, job_id
from api.security import JOBS_READ, UPLOAD_WRITE
from api.services import services
from sources.import_jobs import Job

ROWS_ON_A_PAGE = 50
_JOB = {"cursor": CURSOR_OF_ROWS, "known": FLAG}
router = APIRouter(prefix=f"{UPLOADS.path}/jobs", route_class=PageRoute, include_in_schema=False)


@router.get("/{job_id}")
async def one(request: Request) -> Response:
    """The job as it is now, with a page of its refused rows."""
    found, job = await _found(request)
    wanted = asked(request, _JOB)
    after = wanted.get("cursor", 0)
    room = services(request)
    rows = await room.jobs.errors(job, after, ROWS_ON_A_PAGE + 1) if job.rows_invalid else []
    return render(
        "job.html",
        found,
        job=job,
        rows=rows[:ROWS_ON_A_PAGE],
        after=after,
        following=after + ROWS_ON_A_PAGE if len(rows) > ROWS_ON_A_PAGE else None,
        kept=room.settings.uploads.max_errors,
        known=wanted.get("known", False),
    )


@router.get("/{job_id}/events")
async def events(request: Request) -> Response:
    """Follow it, as GET /jobs/{job_id}/events does."""
    found, job = await _found(request)
    asked(request, {})
    room = services(request)
    return await progress.follow(request, room.jobs, job, room.watching, found.principal.credential)


@router.get("/{job_id}/errors.csv")
async def errors(request: Request) -> Response:
    """All refused rows, as GET /jobs/{job_id}/errors?format=csv gives them."""
    _, job = await _found(request)
    asked(request, {})
    return await errors_csv.download(services(request).jobs, job, 0, None)


@router.post("/{job_id}/cancel")
async def cancel(request: Request) -> Response:
    """End it; one that runs is asked to."""
    found = await admitted(request, UPLOAD_WRITE)
    given = await fields_of(request)
    check_form(request, found.session.token, given.get(FIELD))
    job = await services(request).jobs.cancel(found.principal.tenant_id, job_id(request))
    return RedirectResponse(f"{UPLOADS.path}/jobs/{job.id}" if found.may_read else UPLOADS.path, 303)


async def _found(request: Request) -> tuple[Visitor, Job]:
    found = await admitted(request, JOBS_READ)
    return found, await services(request).jobs.find(found.principal.tenant_id, job_id(request))
