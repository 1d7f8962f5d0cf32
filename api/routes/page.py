"""/uploads for people: the tenant's imports, and files on their way in."""

from contextlib import aclosing

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.form import FormFile, file_of
from api.intake import check, receiving, take
from api.jobs import place_of
from api.page.areas import UPLOADS
from api.page.forgery import FIELD, check_form
from api.page.form import wanted_of
from api.page.render import JSON, PageRoute, front_door, render
from api.page.visit import admitted
from api.problems import Problem
from api.query import CURSOR_OF_JOBS, FLAG, STATUS, asked
from api.security import UPLOAD_WRITE
from api.services import services
from api.streaming import Streamed
from schemas.dataset import ENCODINGS, datasets

JOBS_ON_A_PAGE = 25
_LIST = {"status": STATUS, "cursor": CURSOR_OF_JOBS, "queued": FLAG}
router = APIRouter(prefix=UPLOADS.path, route_class=PageRoute, include_in_schema=False)


@router.get("")
async def front(request: Request) -> Response:
    """The form for files and the tenant's imports; for a stranger the form that asks for a key."""
    try:
        found = await admitted(request)
    except Problem as problem:
        if problem.code != "signed_out":
            raise
        return front_door(request)
    wanted = asked(request, _LIST)
    room, state = services(request), wanted.get("status")
    jobs, older = [], None
    if found.may_read:
        tenant = found.principal.tenant_id
        jobs = await room.jobs.newest(tenant, state, wanted.get("cursor"), JOBS_ON_A_PAGE + 1)
        older = place_of(jobs[JOBS_ON_A_PAGE - 1]) if len(jobs) > JOBS_ON_A_PAGE else None
    return render(
        "uploads.html",
        found,
        jobs=jobs[:JOBS_ON_A_PAGE],
        older=older,
        state=state,
        newest="cursor" not in wanted,
        queued=wanted.get("queued", False),
        datasets=list(datasets()),
        encodings=ENCODINGS,
        max_bytes=room.settings.uploads.max_bytes,
    )


@router.post("")
async def send(request: Request) -> Response:
    """A form with one file → storage and a job, as POST /upload does; then the job's page."""
    room = services(request)
    try:
        found = await admitted(request, UPLOAD_WRITE)
    except Problem as refusal:  # the file is under way already
        raise await Streamed(request, room.settings.uploads).turned_away(refusal) from None
    async with receiving(room, request) as body:
        with room.uploading.taken(found.principal.credential, 1):
            await check(room, request)
            async with aclosing(body.chunks()) as chunks:
                file = file_of(request.headers.get("content-type", ""), chunks, None)
                if not isinstance(file, FormFile):
                    raise Problem(400, "malformed_form")
                fields = await file.fields()
                check_form(request, found.session.token, dict(fields).get(FIELD))
                taken = await take(room, found.principal, file, wanted_of(fields))
    known = taken.known is not None
    place = f"{UPLOADS.path}?queued=true"
    if found.may_read:
        place = f"{UPLOADS.path}/jobs/{taken.job_id}{'?known=true' if known else ''}"
    if request.headers.get("accept", "").startswith(JSON):
        return Response(
            orjson.dumps({"place": place, "known": known}), 200 if known else 202, media_type=JSON
        )
    return RedirectResponse(place, 303)
