"""Dead letters of the caller's tenant: the newest, groups, one, and being done with some.

Whatever a known caller asks for here is entered into the audit trail (api/trail.py) before it is shown or
done; while PostgreSQL is away nothing is. Letters without a tenant are nobody's here.
"""

from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.audit import OK
from api.body import read_body
from api.letters_body import MAX_BODY_BYTES, detail_of, read_order
from api.letters_models import DiscardedModel, LetterGroupsModel, LettersModel, WholeLetterModel
from api.letters_query import DEFAULT_LIMIT, LIST, STATS, cursor_of, is_id, wanted_of
from api.openapi_letters import (
    DISCARD,
    DISCARD_REFUSALS,
    LETTER,
    LETTERS,
    LIST_REFUSALS,
    ONE_REFUSALS,
)
from api.openapi_letters import STATS as STATS_DOCUMENT
from api.problems import Problem
from api.query import asked
from api.security import DLQ_READ, DLQ_REPLAY, PII_READ
from api.services import services
from api.trail import acting
from sources.letters.shown import listed, told, whole

JSON = "application/json"
_BY = ["stream", "reason"]
router = APIRouter(prefix="/api/v1/dead-letters", tags=["dead letters"])


@router.get("", response_model=LettersModel, responses=LIST_REFUSALS, openapi_extra=LETTERS)
async def newest(request: Request) -> Response:
    """The tenant's letters, newest first, a page at a time, without their payloads."""
    room = services(request)
    async with acting(request, DLQ_READ, "letters.list") as found:
        given = asked(request, LIST)
        wanted = wanted_of(given, found.caller.tenant_id)
        limit = given.get("limit", DEFAULT_LIMIT)
        found.act = replace(found.act, detail=detail_of(wanted))
        letters = await room.letters.newest(found.caller.credential, wanted, limit + 1, given.get("cursor"))
        await room.control.note(found.act, OK)
    page, more = letters[:limit], len(letters) > limit
    cursor = cursor_of(page[-1]) if more else None
    return _json({"letters": [listed(letter) for letter in page], "next_cursor": cursor})


@router.get("/stats", response_model=LetterGroupsModel, responses=LIST_REFUSALS, openapi_extra=STATS_DOCUMENT)
async def stats(request: Request) -> Response:
    """How many of the tenant's letters have something in common, the largest groups first."""
    room = services(request)
    async with acting(request, DLQ_READ, "letters.stats") as found:
        given = asked(request, STATS)
        wanted, by = wanted_of(given, found.caller.tenant_id), given.get("by", _BY)
        found.act = replace(found.act, detail=detail_of(wanted) | {"by": by})
        limit = given.get("limit", DEFAULT_LIMIT)
        groups = await room.letters.groups(found.caller.credential, wanted, by, limit)
        await room.control.note(found.act, OK)
    return _json({"groups": [told(group.named(by)) for group in groups]})


@router.post("/discard", response_model=DiscardedModel, responses=DISCARD_REFUSALS, openapi_extra=DISCARD)
async def discard(request: Request) -> Response:
    """Be done with letters: new ones become discarded. Those that are not, or are not there, are left."""
    room = services(request)
    async with acting(request, DLQ_REPLAY, "letters.discard") as found:
        asked(request, {})
        with room.bodies.taken(found.caller.credential, MAX_BODY_BYTES):
            order = read_order(await read_body(request, JSON, MAX_BODY_BYTES), found.caller.tenant_id)
        found.act = replace(found.act, detail=detail_of(order.wanted) | {"why": order.why})
        ids = await room.letters.to_discard(found.caller.credential, order.wanted)
        await room.control.note(replace(found.act, detail=found.act.detail | {"letters": len(ids)}), OK)
    return _json({"discarded": await room.letters.discard(found.caller.credential, ids)})


@router.get(
    "/{dead_letter_id}", response_model=WholeLetterModel, responses=ONE_REFUSALS, openapi_extra=LETTER
)
async def one(request: Request) -> Response:
    """All of one letter. Payload and values of headers are masked unless the credential has `pii:read`."""
    room, name = services(request), request.path_params["dead_letter_id"]
    if name == "discard":  # a path of its own, which is posted to
        raise Problem(405, "method_not_allowed", headers={"Allow": "POST"})
    async with acting(request, DLQ_READ, "letters.show") as found:
        asked(request, {})
        if not is_id(name):
            raise Problem(404, "not_found")
        personal = PII_READ in found.caller.scopes
        found.act = replace(found.act, detail={"dead_letter_id": name, "masked": not personal})
        letter = await room.letters.find(found.caller.credential, found.caller.tenant_id, name)
        await room.control.note(found.act, OK)
    return _json(whole(letter, personal))


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type=JSON)
