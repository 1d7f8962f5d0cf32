"""/ops/replays for people: letters that are to be sent again, the plan, its approval, what came of it."""

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.audit import OK
from api.page import live
from api.page.areas import OPS
from api.page.forgery import FIELD, check_form
from api.page.form import fields_of
from api.page.order_form import body_of, order_fields
from api.page.render import PageRoute, html_of, render
from api.page.visit import Visitor, by_session, who
from api.query import CURSOR_OF_REPLAYS, asked, id_in, one_of
from api.replays import APPROVED, PLANNED, REQUESTED, STATUSES, Replay, place_of, sees_values, shown
from api.replays_body import about, read_request
from api.security import DLQ_READ, DLQ_REPLAY
from api.services import services
from api.trail import acting

REPLAYS_ON_A_PAGE = 25
# A job has something to do with it, or a person.
_OPEN = (REQUESTED, PLANNED, APPROVED)
_PATH = f"{OPS.path}/replays"
_LIST = {"status": one_of(*STATUSES), "cursor": CURSOR_OF_REPLAYS}
router = APIRouter(prefix=_PATH, route_class=PageRoute, include_in_schema=False)


@router.get("")
async def newest(request: Request) -> Response:
    """The tenant's replays, newest first."""
    room = services(request)
    async with acting(request, DLQ_READ, "replays.list", by_session) as looking:
        given = asked(request, _LIST)
        status, tenant = given.get("status"), looking.caller.tenant_id
        looking.act = replace(looking.act, detail={"status": status} if status else {})
        found = await room.replays.newest(tenant, status, given.get("cursor"), REPLAYS_ON_A_PAGE + 1)
        await room.control.note(looking.act, OK)
    page = found[:REPLAYS_ON_A_PAGE]
    return render(
        "ops_replay_list.html",
        who(request),
        replays=page,
        state=status,
        newest="cursor" not in given,
        older=place_of(page[-1]) if len(found) > REPLAYS_ON_A_PAGE else None,
    )


@router.post("")
async def request_one(request: Request) -> Response:
    """Ask for one, as POST …/dead-letters/replays does; then its page."""
    room = services(request)
    async with acting(request, DLQ_REPLAY, "replays.request", by_session) as found:
        wanted = read_request(body_of(await order_fields(request)), found.caller.tenant_id)
        found.act = replace(found.act, detail=about(wanted))
        replay_id = await room.replays.request(found.act, wanted)
    return RedirectResponse(_place(request, str(replay_id)), 303)


@router.get("/{replay_id}")
async def one(request: Request) -> Response:
    """A replay as it is now, with its plan and the button that applies it."""
    found, replay = await _found(request)
    return render("ops_replay.html", found, part=_html(found, replay), replay=replay)


@router.get("/{replay_id}/events")
async def events(request: Request) -> Response:
    """The same, whenever it has changed. The trail is told once, when it begins."""
    found, replay = await _found(request)
    replays, tenant = services(request).replays, found.principal.tenant_id

    async def look(now: Visitor) -> dict[str, str]:
        return (
            {"replay": _html(now, await replays.find(tenant, replay["replay_id"]))}
            if now.may(DLQ_READ)
            else {}
        )

    return await live.follow(request, found, look)


@router.post("/{replay_id}/apply")
async def apply(request: Request) -> Response:
    """Approve its plan, as POST …/replays/{replay_id}/apply does."""
    async with acting(request, DLQ_REPLAY, "replays.apply", by_session) as found:
        given = await fields_of(request)
        check_form(request, who(request).session.token, given.get(FIELD))
        replay_id = id_in(request, "replay_id")
        found.act = replace(found.act, detail={"replay_id": str(replay_id)})
        await services(request).replays.approve(found.act, replay_id)
    return RedirectResponse(_place(request, str(replay_id)), 303)


async def _found(request: Request) -> tuple[Visitor, Replay]:
    room = services(request)
    async with acting(request, DLQ_READ, "replays.show", by_session) as looking:
        asked(request, {})
        replay_id = id_in(request, "replay_id")
        looking.act = replace(looking.act, detail={"replay_id": str(replay_id)})
        replay = await room.replays.find(looking.caller.tenant_id, replay_id)
        await room.control.note(looking.act, OK)
    return who(request), replay


def _html(visitor: Visitor, replay: Replay) -> str:
    patch = shown(replay, sees_values(visitor.principal))["patch"]
    return html_of(
        "ops_replay_part.html", visitor, replay=replay | {"patch": patch}, open=replay["status"] in _OPEN
    )


def _place(request: Request, replay_id: str) -> str:
    """Where to after a form: who may not look is not led to what they would be refused."""
    return f"{_PATH}/{replay_id}" if who(request).may(DLQ_READ) else OPS.path
