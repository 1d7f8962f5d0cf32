"""Replays of the caller's dead letters: asked for, listed, shown, and approved once a job has planned them.

As with the letters themselves, every request of a known caller is entered into the audit trail first.
"""

from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.audit import OK
from api.body import read_body
from api.letters_body import MAX_BODY_BYTES
from api.openapi_replays import (
    APPLY_REFUSALS,
    DEFAULT_LIMIT,
    MAX_LIMIT,
    REPLAY,
    REPLAY_REFUSALS,
    REPLAYS,
    REPLAYS_REFUSALS,
    REQUEST,
    REQUEST_REFUSALS,
)
from api.query import CURSOR_OF_REPLAYS, asked, at_most, id_in, one_of
from api.replays import REQUESTED, STATUSES, place_of, sees_values, shown
from api.replays_body import about, read_request
from api.replays_models import ReplayModel, ReplaysModel, ReplayStatusModel
from api.security import DLQ_READ, DLQ_REPLAY
from api.services import services
from api.trail import acting

JSON = "application/json"
PREFIX = "/api/v1/dead-letters/replays"
_LIST = {"status": one_of(*STATUSES), "cursor": CURSOR_OF_REPLAYS, "limit": at_most(MAX_LIMIT)}
router = APIRouter(prefix=PREFIX, tags=["dead letters"])


@router.post(
    "", status_code=202, response_model=ReplayStatusModel, responses=REQUEST_REFUSALS, openapi_extra=REQUEST
)
async def request_one(request: Request) -> Response:
    """Have letters sent again, patched if there is a patch: a job plans it, and nothing is sent before the
    plan was approved."""
    room = services(request)
    async with acting(request, DLQ_REPLAY, "replays.request") as found:
        asked(request, {})
        with room.bodies.taken(found.caller.credential, MAX_BODY_BYTES):
            wanted = read_request(await read_body(request, JSON, MAX_BODY_BYTES), found.caller.tenant_id)
        found.act = replace(found.act, detail=about(wanted))
        replay_id = await room.replays.request(found.act, wanted)
    answer = _json({"replay_id": str(replay_id), "status": REQUESTED}, 202)
    answer.headers["Location"] = f"{PREFIX}/{replay_id}"
    return answer


@router.get("", response_model=ReplaysModel, responses=REPLAYS_REFUSALS, openapi_extra=REPLAYS)
async def newest(request: Request) -> Response:
    """The tenant's replays, newest first, a page at a time."""
    room = services(request)
    async with acting(request, DLQ_READ, "replays.list") as found:
        given = asked(request, _LIST)
        status, limit = given.get("status"), given.get("limit", DEFAULT_LIMIT)
        found.act = replace(found.act, detail={"status": status} if status else {})
        tenant = found.caller.tenant_id
        replays = await room.replays.newest(tenant, status, given.get("cursor"), limit + 1)
        await room.control.note(found.act, OK)
    page, more = replays[:limit], len(replays) > limit
    values = sees_values(found.caller)
    cursor = place_of(page[-1]) if more else None
    return _json({"replays": [shown(one, values) for one in page], "next_cursor": cursor})


@router.get("/{replay_id}", response_model=ReplayModel, responses=REPLAY_REFUSALS, openapi_extra=REPLAY)
async def one(request: Request) -> Response:
    """A replay as it is now, with its plan once there is one."""
    room = services(request)
    async with acting(request, DLQ_READ, "replays.show") as found:
        asked(request, {})
        replay_id = id_in(request, "replay_id")
        found.act = replace(found.act, detail={"replay_id": str(replay_id)})
        replay = await room.replays.find(found.caller.tenant_id, replay_id)
        await room.control.note(found.act, OK)
    return _json(shown(replay, sees_values(found.caller)))


@router.post(
    "/{replay_id}/apply",
    status_code=202,
    response_model=ReplayStatusModel,
    responses=APPLY_REFUSALS,
    openapi_extra=REPLAY,
)
async def apply(request: Request) -> Response:
    """Approve the plan: a job carries it out. Twice is once."""
    room = services(request)
    async with acting(request, DLQ_REPLAY, "replays.apply") as found:
        asked(request, {})
        replay_id = id_in(request, "replay_id")
        found.act = replace(found.act, detail={"replay_id": str(replay_id)})
        status = await room.replays.approve(found.act, replay_id)
    return _json({"replay_id": str(replay_id), "status": status}, 202)


def _json(content: dict[str, Any], code: int = 200) -> Response:
    return Response(orjson.dumps(content), code, media_type=JSON)
