"""/ops for people: what flows, whether it adds up, what was refused, what is sent again, how good it is."""

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.audit import OK
from api.ops import DEFAULT_SPAN, SPANS
from api.page import live
from api.page.areas import OPS
from api.page.ops import parts
from api.page.render import PageRoute, front_door, render
from api.page.visit import Visitor, admitted, by_session
from api.problems import Problem
from api.query import asked, one_of
from api.security import DLQ_READ
from api.services import services
from api.trail import acting

_FRONT = {"span": one_of(*SPANS)}
_OUTAGE = 500
router = APIRouter(prefix=OPS.path, route_class=PageRoute, include_in_schema=False)


@router.get("")
async def front(request: Request) -> Response:
    """All parts; for a stranger the form that asks for a key."""
    try:
        found = await admitted(request)
    except Problem as problem:
        if problem.code != "signed_out":
            raise
        return front_door(request)
    span = asked(request, _FRONT).get("span", DEFAULT_SPAN)
    shown = await parts(request, found, span, await _told(request, found, span))
    return render("ops.html", found, parts=shown, span=span)


@router.get("/events")
async def events(request: Request) -> Response:
    """The same, whenever something has changed. The trail is told once, when it begins."""
    found = await admitted(request)
    span = asked(request, _FRONT).get("span", DEFAULT_SPAN)
    untold = await _told(request, found, span)

    async def look(now: Visitor) -> dict[str, str]:
        nonlocal untold
        if untold:  # what belongs into the trail is shown as soon as that can be told
            untold = await _told(request, now, span)
        return await parts(request, now, span, untold)

    return await live.follow(request, found, look)


async def _told(request: Request, found: Visitor, span: str) -> Problem | None:
    """Enter the look at dead letters and replays into the trail; why not, where it cannot be."""
    if not found.may(DLQ_READ):
        return None
    try:
        for action in ("letters.stats", "replays.list"):
            async with acting(request, DLQ_READ, action, by_session) as looking:
                act = replace(looking.act, detail={"page": OPS.path, "span": span})
                await services(request).control.note(act, OK)
    except Problem as problem:
        if problem.status < _OUTAGE:
            raise
        return problem
    return None
