"""Sign in to an area of the pages, and out of it."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.metrics import REFUSED
from api.page.areas import AREAS, area_of
from api.page.forgery import FIELD, check_form
from api.page.form import fields_of
from api.page.render import PageRoute, sign_in_page
from api.page.visit import (
    CHALLENGE,
    SESSION_COOKIE,
    VISIT_COOKIE,
    drop_cookie,
    set_cookie,
    visit_of,
    visitor,
)
from api.problems import Problem
from api.security import KeyRecord
from api.services import Services, services

router = APIRouter(route_class=PageRoute, include_in_schema=False)


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
    answer = RedirectResponse(area_of(request).leads_to(after), 303)
    set_cookie(request, answer, SESSION_COOKIE, session.text())
    drop_cookie(request, answer, VISIT_COOKIE)
    return answer


async def sign_out(request: Request) -> Response:
    """The session is over, in Redis and in the browser."""
    found = await visitor(request)
    given = await fields_of(request)
    if found:
        check_form(request, found.session.token, given.get(FIELD))
        await _end(request, services(request))
    answer = RedirectResponse(area_of(request).path, 303)
    drop_cookie(request, answer, SESSION_COOKIE)
    return answer


async def _holder(request: Request, room: Services, key: str) -> tuple[str, KeyRecord]:
    found = room.gate.holder(key)
    if not found:
        REFUSED.labels("unauthorized").inc()
        raise Problem(401, "unauthorized", headers=CHALLENGE)
    principal = found[1].principal
    if not principal.scopes & area_of(request).scopes:
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


for _area in AREAS:
    router.add_api_route(f"{_area.path}/sign-in", sign_in, methods=["POST"])
    router.add_api_route(f"{_area.path}/sign-out", sign_out, methods=["POST"])
