"""A job's progress as server-sent events: `progress` whenever it changed, `end` when it is over."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.jobs import Jobs, shown
from api.problems import Problem
from api.room import Room
from sources.import_jobs import Job

MEDIA_TYPE = "text/event-stream"
LOOK_EVERY_S = 1.0
QUIET_S = 15.0  # then a comment, so that nobody in between takes the connection for dead
LONGEST_S = 900.0  # then the client comes again by itself
RECONNECT_MS = 2000


async def follow(request: Request, jobs: Jobs, job: Job, watching: Room, credential: str) -> Response:
    """An answer that goes on until the job ends. Raises Problem 503 when too many follow already."""

    async def watched() -> AsyncIterator[bytes]:
        with watching.taken(credential, 1):
            async for event in events(request, jobs, job):
                yield event

    stream = watched()
    first = await anext(stream)  # takes the room, or is refused as any request is
    return StreamingResponse(_with(first, stream), media_type=MEDIA_TYPE)


async def events(request: Request, jobs: Jobs, job: Job) -> AsyncIterator[bytes]:
    """The stream of one job, from what is known of it. While PostgreSQL is away only comments come."""
    yield b"retry: %d\n\n" % RECONNECT_MS
    began = spoke = time.monotonic()
    last = b""
    while True:
        now = orjson.dumps(shown(job))
        if now != last:
            last, spoke = now, time.monotonic()
            yield b"event: %b\ndata: %b\n\n" % (b"end" if job.ended else b"progress", now)
        elif time.monotonic() - spoke >= QUIET_S:
            spoke = time.monotonic()
            yield b": still here\n\n"
        if job.ended or time.monotonic() - began >= LONGEST_S or _is_over(request):
            return
        await asyncio.sleep(LOOK_EVERY_S)
        job = await _seen_again(jobs, job.tenant_id, job.id) or job


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for more in rest:
        yield more


async def _seen_again(jobs: Jobs, tenant_id: str, job_id: UUID) -> Job | None:
    try:
        return await jobs.find(tenant_id, job_id)
    except Problem:
        return None


def _is_over(request: Request) -> bool:
    """Whether the server stops: `api.protocol` says so."""
    return bool(request.scope["state"].get("stopping"))
