"""Control of the CRM's ingestion: start, stop, send a record again; what is wanted, what is, counts.

Each of the first three is entered into the audit trail, also when a known caller is refused: without the
scope, for a fault in the request, for a record that is not its tenant's. Too fast or unknown callers are not:
whoever knocks must not be able to fill the trail.
"""

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.body import read_body
from api.control import RUNNING, STOPPED, Act
from api.crm_job import MAX_BODY_BYTES, read_job
from api.models import ControlMetricsModel, ControlStatusModel, DesiredModel, EnqueuedModel
from api.openapi_crm import CONTROL, CONTROL_REFUSALS, ENQUEUE, ENQUEUE_REFUSALS
from api.problems import Problem
from api.query import asked
from api.security import CRM_CONTROL, CRM_READ, ForbiddenError, Principal
from api.services import services

JSON = "application/json"
_OUTAGE = 500
router = APIRouter(prefix="/api/v1/crm-ingestion", tags=["crm"])


@router.post(
    "/start",
    status_code=202,
    response_model=DesiredModel,
    responses=CONTROL_REFUSALS,
    openapi_extra=CONTROL,
)
async def start(request: Request) -> Response:
    """Have the queries of the CRM run, also after a restart."""
    return await _wish(request, "start", RUNNING)


@router.post(
    "/stop", status_code=202, response_model=DesiredModel, responses=CONTROL_REFUSALS, openapi_extra=CONTROL
)
async def stop(request: Request) -> Response:
    """Have them stop, also after a restart: batches that are under way end, none begins. Kafka keeps what
    comes."""
    return await _wish(request, "stop", STOPPED)


@router.post(
    "/enqueue",
    status_code=202,
    response_model=EnqueuedModel,
    responses=ENQUEUE_REFUSALS,
    openapi_extra=ENQUEUE,
)
async def enqueue(request: Request) -> Response:
    """Have one record sent again to its topic, with the header `replay_of`. What was processed is skipped."""
    room = services(request)
    async with _acting(request, "enqueue") as acting:
        asked(request, {})
        with room.bodies.taken(acting.caller.credential, MAX_BODY_BYTES):
            job = read_job(await read_body(request, JSON, MAX_BODY_BYTES))
        acting.act = replace(acting.act, detail=job.parameters())
        job_id = await room.control.enqueue(acting.act, job)
    return _json({"job_id": str(job_id)}, 202)


@router.get("/status", response_model=ControlStatusModel, responses=CONTROL_REFUSALS, openapi_extra=CONTROL)
async def status(request: Request) -> Response:
    """What is wanted, what is, and each query by its last word."""
    room = services(request)
    await room.admit(request, CRM_READ)
    asked(request, {})
    return _json(await room.control.status())


@router.get("/metrics", response_model=ControlMetricsModel, responses=CONTROL_REFUSALS, openapi_extra=CONTROL)
async def metrics(request: Request) -> Response:
    """What became of the tenant's records since the log was last emptied."""
    room = services(request)
    caller = await room.admit(request, CRM_READ)
    asked(request, {})
    return _json(await room.control.metrics(caller.tenant_id))


async def _wish(request: Request, action: str, desired: str) -> Response:
    async with _acting(request, action) as acting:
        asked(request, {})
        await services(request).control.wish(acting.act, desired)
    return _json({"desired": desired}, 202)


@dataclass
class _Acting:
    """Who acts, and what of it is known so far."""

    caller: Principal
    act: Act


@asynccontextmanager
async def _acting(request: Request, action: str) -> AsyncIterator[_Acting]:
    """The caller, who may. What is refused here or inside is entered into the trail first."""
    room = services(request)
    try:
        caller = await room.admit(request, CRM_CONTROL)
    except ForbiddenError as refusal:
        await room.pace(request, refusal.caller)
        await room.control.note(_act(request, refusal.caller, action), refusal.code)
        raise
    acting = _Acting(caller, _act(request, caller, action))
    try:
        yield acting
    except Problem as refusal:
        if refusal.status < _OUTAGE:
            await room.control.note(acting.act, refusal.code)
        raise


def _act(request: Request, caller: Principal, action: str) -> Act:
    return Act(caller.actor, caller.tenant_id, action, _address(request), request.state.request_id)


def _address(request: Request) -> str | None:
    """Where the connection comes from. No X-Forwarded-* is believed: behind a proxy it is the proxy's."""
    try:
        found = ipaddress.ip_address((request.client.host if request.client else "").partition("%")[0])
    except ValueError:
        return None
    return str(found)


def _json(content: dict[str, Any], code: int = 200) -> Response:
    return Response(orjson.dumps(content), code, media_type=JSON)
