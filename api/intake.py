"""A file's way in, whoever sends it, a program or the page: storage first, then a PENDING job.

Nothing of a file that is refused stays in storage, and no job is entered before all of its file is there.
"""

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from api.arrivals import Arrived, too_large
from api.body import declared_size
from api.form import MAX_FORM_BYTES, FormFile, RawFile, clean_label
from api.metrics import UPLOAD_BYTES, UPLOADS
from api.problems import Problem, unavailable
from api.query import READING
from api.security import Principal
from api.services import Services
from api.streaming import Streamed
from headwater.clock import utc_now
from headwater.errors import HeadwaterError, SetupError
from headwater.log import logger
from sources.import_jobs import Job, NewJob
from sources.landing.base import new_key

RETRY_AFTER_S = 5
_log = logger(__name__)


@dataclass(frozen=True)
class Taken:
    """The job of a file: a new one, or `known`, which imported the same file before."""

    job_id: uuid.UUID
    known: Job | None


@asynccontextmanager
async def receiving(room: Services, request: Request) -> AsyncIterator[Streamed]:
    """The body of an upload. A refusal is counted, and told once the client had a moment to stop sending."""
    body = Streamed(request, room.settings.uploads)
    try:
        yield body
    except Problem as refusal:
        UPLOADS.labels("unavailable" if refusal.status >= 500 else "refused").inc()
        raise await body.turned_away(refusal) from None


async def check(room: Services, request: Request) -> None:
    """Before a byte of the body is read. Raises Problem 413, 415, or 503 while PostgreSQL is away."""
    uploads = room.settings.uploads
    if declared_size(request) > uploads.max_bytes + MAX_FORM_BYTES:
        raise too_large(uploads.max_bytes)
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem(415, "unsupported_encoding", headers={"Accept-Encoding": "identity"})
    await room.jobs.check()


async def take(room: Services, caller: Principal, file: RawFile | FormFile, wanted: dict[str, Any]) -> Taken:
    """Store the file and enter its job; `wanted` as `api.query.UPLOAD` reads it. Raises Problem."""
    job_id = uuid.uuid4()
    key = new_key(job_id, utc_now().date())
    with _storage_faults():
        arrived = await room.arrivals.take(key, file.content())
    label = clean_label(wanted.get("name") or file.label, room.settings.uploads.max_name_length)
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


async def _queue(room: Services, new: NewJob, force: bool) -> Taken:
    known = None if force else await room.jobs.same_file(new)
    if known:
        await _forget(room, new.storage_key)
        UPLOADS.labels("known").inc()
        return Taken(known.id, known)
    await room.jobs.enter(new)
    UPLOADS.labels("queued").inc()
    UPLOAD_BYTES.inc(new.bytes)
    return Taken(new.id, None)


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
