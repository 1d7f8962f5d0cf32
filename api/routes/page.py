"""/uploads for people: sign in and out, the tenant's imports, and files on their way in."""

import re
from contextlib import aclosing

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.form import FormFile, file_of
from api.intake import check, receiving, take
from api.jobs import place_of
from api.metrics import REFUSED
from api.page.forgery import FIELD, check_form
from api.page.form import fields_of, wanted_of
from api.page.render import JSON, PageRoute, front_door, render, sign_in_page
from api.page.visit import (
    CHALLENGE,
    PATH,
    QUALITY_COOKIE,
    QUALITY_PATH,
    SESSION_COOKIE,
    VISIT_COOKIE,
    admitted,
    drop_cookie,
    set_cookie,
    visit_of,
    visitor,
)
from api.problems import Problem
from api.query import CURSOR_OF_JOBS, FLAG, STATUS, asked
from api.security import JOBS_READ, QUALITY_READ, UPLOAD_WRITE, KeyRecord
from api.services import Services, services
from api.streaming import Streamed
from schemas.dataset import ENCODINGS, datasets

JOBS_ON_A_PAGE = 25
_AFTER = re.compile(rf"{PATH}/jobs/[0-9a-f-]{{36}}|{QUALITY_PATH}(/\w[\w.-]*)*", re.ASCII)
_LIST = {"status": STATUS, "cursor": CURSOR_OF_JOBS, "queued": FLAG}
router = APIRouter(prefix=PATH, route_class=PageRoute, include_in_schema=False)


@router.get("")
async def front(request: Request) -> Response:
    """The form for files and the tenant's imports; for a stranger the form that asks for a key."""
    try:
        found = await admitted(request)
    except Problem as problem:
        if problem.code != "signed_out":
            raise
        return front_door(request)
    if found.may_see_quality and not (found.may_read or found.may_upload):
        return RedirectResponse(QUALITY_PATH, 303)
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


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """A key → a session of its own, never one that the browser brought along."""
    room = services(request)
    given = await fields_of(request)
    check_form(request, visit_of(request), given.get(FIELD))
    after = given.get("after", "")
    try:
        key_id, record = await _holder(request, room, given.get("key", "").strip())
    except Problem as problem:
        if problem.status not in (401, 403):
            raise
        return sign_in_page(request, problem, after)
    await _end(request, room)
    session = await room.sessions.open(key_id, record)
    answer = RedirectResponse(after if _AFTER.fullmatch(after) else PATH, 303)
    set_cookie(request, answer, SESSION_COOKIE, session.text())
    if QUALITY_READ in record.principal.scopes:
        set_cookie(request, answer, QUALITY_COOKIE, session.text())
    drop_cookie(request, answer, VISIT_COOKIE)
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """The session is over, in Redis and in the browser."""
    found = await visitor(request)
    given = await fields_of(request)
    if found:
        check_form(request, found.session.token, given.get(FIELD))
        await _end(request, services(request))
    answer = RedirectResponse(PATH, 303)
    drop_cookie(request, answer, SESSION_COOKIE)
    if found and found.may_see_quality:
        drop_cookie(request, answer, QUALITY_COOKIE)
    return answer


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
    place = f"{PATH}?queued=true"
    if found.may_read:
        place = f"{PATH}/jobs/{taken.job_id}{'?known=true' if known else ''}"
    if request.headers.get("accept", "").startswith(JSON):
        return Response(
            orjson.dumps({"place": place, "known": known}), 200 if known else 202, media_type=JSON
        )
    return RedirectResponse(place, 303)


async def _holder(request: Request, room: Services, key: str) -> tuple[str, KeyRecord]:
    found = room.gate.holder(key)
    if not found:
        REFUSED.labels("unauthorized").inc()
        raise Problem(401, "unauthorized", headers=CHALLENGE)
    principal = found[1].principal
    if not principal.scopes & {UPLOAD_WRITE, JOBS_READ, QUALITY_READ}:
        REFUSED.labels("forbidden").inc()
        raise Problem(403, "forbidden", headers=CHALLENGE)
    await room.pace(request, principal)
    return found


async def _end(request: Request, room: Services) -> None:
    """End the session that the browser has, if any."""
    found = await visitor(request)
    record = room.gate.key(found.session.key_id) if found else None
    if found and record:
        await room.sessions.end(found.session, record)
