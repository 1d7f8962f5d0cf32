"""Control of the CRM's ingestion: start, stop, send a record again; what is wanted, what is, counts.

Each of the first three is entered into the audit trail (api/trail.py).
"""

from dataclasses import replace
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.body import read_body
from api.control import RUNNING, STOPPED
from api.crm_job import MAX_BODY_BYTES, read_job
from api.models import ControlMetricsModel, ControlStatusModel, DesiredModel, EnqueuedModel
from api.openapi_crm import CONTROL, CONTROL_REFUSALS, ENQUEUE, ENQUEUE_REFUSALS
from api.query import asked
from api.security import CRM_CONTROL, CRM_READ
from api.services import services
from api.trail import acting

JSON = "application/json"
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
    async with acting(request, CRM_CONTROL, "enqueue") as found:
        asked(request, {})
        with room.bodies.taken(found.caller.credential, MAX_BODY_BYTES):
            job = read_job(await read_body(request, JSON, MAX_BODY_BYTES))
        found.act = replace(found.act, detail=job.parameters())
        job_id = await room.control.enqueue(found.act, job)
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
    async with acting(request, CRM_CONTROL, action) as found:
        asked(request, {})
        await services(request).control.wish(found.act, desired)
    return _json({"desired": desired}, 202)


def _json(content: dict[str, Any], code: int = 200) -> Response:
    return Response(orjson.dumps(content), code, media_type=JSON)
