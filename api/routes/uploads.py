"""POST /upload: a file → storage and a PENDING job; 202 only for what is whole, durable and queued."""

import uuid
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.arrivals import Arrived, too_large
from api.body import declared_size
from api.form import MAX_FORM_BYTES, clean_label, file_of
from api.jobs import shown
from api.metrics import UPLOAD_BYTES, UPLOADS
from api.models import JobModel, QueuedModel
from api.openapi_uploads import UPLOAD as DOCUMENTED
from api.openapi_uploads import UPLOAD_REFUSALS
from api.problems import Problem, unavailable
from api.query import READING, UPLOAD, asked, missing
from api.security import UPLOAD_WRITE, Principal
from api.services import Services, services
from api.streaming import Streamed
from headwater.clock import utc_now
from headwater.errors import HeadwaterError, SetupError
from headwater.log import logger
from sources.import_jobs import PENDING, NewJob
from sources.landing.base import new_key

JSON = "application/json"
RETRY_AFTER_S = 5
router = APIRouter(tags=["uploads"])
_log = logger(__name__)


@router.post(
    "/upload",
    status_code=202,
    response_model=QueuedModel,
    responses={
        200: {"model": JobModel, "description": "The same file was imported before."},
        **UPLOAD_REFUSALS,
    },
    openapi_extra=DOCUMENTED,
)
async def upload(request: Request) -> Response:
    """Take one file."""
    room = services(request)
    caller = await room.admit(request, UPLOAD_WRITE)
    body = Streamed(request, room.settings.uploads)
    try:
        wanted = asked(request, UPLOAD)
        if "dataset" not in wanted:
            raise missing("dataset")
        with room.uploading.taken(caller.credential, 1):
            return await _take(room, caller, request, body, wanted)
    except Problem as refusal:
        UPLOADS.labels("unavailable" if refusal.status >= 500 else "refused").inc()
        raise await body.turned_away(refusal) from None


async def _take(
    room: Services, caller: Principal, request: Request, body: Streamed, wanted: dict[str, Any]
) -> Response:
    uploads = room.settings.uploads
    if declared_size(request) > uploads.max_bytes + MAX_FORM_BYTES:
        raise too_large(uploads.max_bytes)
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem(415, "unsupported_encoding", headers={"Accept-Encoding": "identity"})
    await room.jobs.check()
    job_id = uuid.uuid4()
    key = new_key(job_id, utc_now().date())
    async with aclosing(body.chunks()) as chunks:
        file = file_of(request.headers.get("content-type", ""), chunks, wanted.get("name"))
        with _storage_faults():
            arrived = await room.arrivals.take(key, file.content())
    label = clean_label(wanted.get("name") or file.label, uploads.max_name_length)
    new = _new_job(job_id, caller.tenant_id, wanted, label, arrived)
    try:
        return await _queue(room, new, bool(wanted.get("force")))
    except Problem:
        if await _is_absent(room, new):
            await _forget(room, key)
        raise


def _new_job(
    job_id: uuid.UUID, tenant_id: str, wanted: dict[str, Any], label: str | None, arrived: Arrived
) -> NewJob:
    return NewJob(
        id=job_id,
        tenant_id=tenant_id,
        dataset=wanted["dataset"],
        storage_key=arrived.stored.key,
        file_label=label,
        format=arrived.format,
        options={name: wanted[name] for name in READING if name in wanted},
        bytes=arrived.stored.size,
        sha256=arrived.stored.sha256,
    )


async def _queue(room: Services, new: NewJob, force: bool) -> Response:
    known = None if force else await room.jobs.same_file(new)
    if known:
        await _forget(room, new.storage_key)
        UPLOADS.labels("known").inc()
        return _answer(200, known.id, shown(known))
    await room.jobs.enter(new)
    UPLOADS.labels("queued").inc()
    UPLOAD_BYTES.inc(new.bytes)
    return _answer(202, new.id, {"job_id": str(new.id), "status": PENDING})


async def _is_absent(room: Services, new: NewJob) -> bool:
    """Whether a job surely was not entered: PostgreSQL may have taken it and not come to say so."""
    try:
        await room.jobs.find(new.tenant_id, new.id)
    except Problem as found:
        return found.status == 404
    return False


async def _forget(room: Services, key: str) -> None:
    """Delete what no job needs; a file that stays for an outage harms nobody."""
    try:
        await room.arrivals.forget(key)
    except HeadwaterError as fault:
        _log.warning("upload_not_deleted", reason=str(fault))


@contextmanager
def _storage_faults() -> Iterator[None]:
    """As 503, and logged: which disk or bucket it is, is no client's business."""
    try:
        yield
    except HeadwaterError as fault:
        log = _log.error if isinstance(fault, SetupError) else _log.warning
        log("storage_failed", reason=str(fault))
        raise unavailable("storage_unavailable", RETRY_AFTER_S) from None


def _answer(status: int, job_id: uuid.UUID, content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), status, {"Location": f"/jobs/{job_id}"}, JSON)
