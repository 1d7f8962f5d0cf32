"""/ops/letters for people: the letters of a group, one of them, and being done with some."""

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.audit import OK
from api.letters_body import detail_of, read_order
from api.letters_query import FILTER, LIST, cursor_of, is_id, wanted_of
from api.page.areas import OPS
from api.page.order_form import body_of, order_fields
from api.page.render import PageRoute, render
from api.page.visit import by_session, who
from api.problems import Problem
from api.query import asked
from api.security import DLQ_READ, DLQ_REPLAY, PII_READ
from api.services import services
from api.trail import acting
from sources.letters.shown import listed, whole

LETTERS_ON_A_PAGE = 50
_LIST = {name: parameter for name, parameter in LIST.items() if name != "limit"}
_PATH = f"{OPS.path}/letters"
router = APIRouter(prefix=_PATH, route_class=PageRoute, include_in_schema=False)


@router.get("")
async def newest(request: Request) -> Response:
    """The tenant's letters that meet the filter, newest first, with the forms for all of them."""
    room = services(request)
    async with acting(request, DLQ_READ, "letters.list", by_session) as looking:
        given = asked(request, _LIST)
        wanted = wanted_of(given, looking.caller.tenant_id)
        looking.act = replace(looking.act, detail=detail_of(wanted))
        letters = await room.letters.newest(
            looking.caller.credential, wanted, LETTERS_ON_A_PAGE + 1, given.get("cursor")
        )
        await room.control.note(looking.act, OK)
    page = letters[:LETTERS_ON_A_PAGE]
    filter_ = {name: text for name, text in request.query_params.items() if name in FILTER}
    return render(
        "ops_list.html",
        who(request),
        letters=[listed(letter) for letter in page],
        filter=filter_,
        newest="cursor" not in given,
        older=cursor_of(page[-1]) if len(letters) > LETTERS_ON_A_PAGE else None,
    )


@router.post("/discard")
async def discard(request: Request) -> Response:
    """Be done with letters, as POST …/dead-letters/discard is."""
    room = services(request)
    async with acting(request, DLQ_REPLAY, "letters.discard", by_session) as found:
        order = read_order(body_of(await order_fields(request)), found.caller.tenant_id)
        found.act = replace(found.act, detail=detail_of(order.wanted) | {"why": order.why})
        ids = await room.letters.to_discard(found.caller.credential, order.wanted)
        await room.control.note(replace(found.act, detail=found.act.detail | {"letters": len(ids)}), OK)
    done = await room.letters.discard(found.caller.credential, ids)
    if not who(request).may(DLQ_READ):
        return RedirectResponse(OPS.path, 303)
    return render("ops_discarded.html", who(request), discarded=done)


@router.get("/{dead_letter_id}")
async def one(request: Request) -> Response:
    """One letter, masked as the API masks it, with the forms for it."""
    room, name = services(request), request.path_params["dead_letter_id"]
    async with acting(request, DLQ_READ, "letters.show", by_session) as looking:
        asked(request, {})
        if not is_id(name):
            raise Problem(404, "not_found")
        personal = PII_READ in looking.caller.scopes
        looking.act = replace(looking.act, detail={"dead_letter_id": name, "masked": not personal})
        letter = await room.letters.find(looking.caller.credential, looking.caller.tenant_id, name)
        await room.control.note(looking.act, OK)
    raw: bytes | None = letter.letter["payload"] if personal else None
    return render(
        "ops_letter.html",
        who(request),
        letter=whole(letter, personal),
        plain=None if raw is None else raw.decode("utf-8", "replace"),
    )
