"""A job's progress as server-sent events: `progress` whenever it changed, `end` when it is over."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.jobs import Jobs, shown
from api.problems import Problem
from api.room import Room
from api.server_events import LONGEST_S, QUIET_S, RETRY, STILL_HERE, event, is_over, streamed
from sources.import_jobs import Job

LOOK_EVERY_S = 1.0


async def follow(request: Request, jobs: Jobs, job: Job, watching: Room, credential: str) -> Response:
    """An answer that goes on until the job ends. Raises Problem 503 when too many follow already."""
    return await streamed(events(request, jobs, job), watching, credential)


async def events(request: Request, jobs: Jobs, job: Job) -> AsyncIterator[bytes]:
    """The stream of one job, from what is known of it. While PostgreSQL is away only comments come."""
    yield RETRY
    began = spoke = time.monotonic()
    last = b""
    while True:
        now = orjson.dumps(shown(job))
        if now != last:
            last, spoke = now, time.monotonic()
            yield event("end" if job.ended else "progress", now)
        elif time.monotonic() - spoke >= QUIET_S:
            spoke = time.monotonic()
            yield STILL_HERE
        if job.ended or time.monotonic() - began >= LONGEST_S or is_over(request):
            return
        await asyncio.sleep(LOOK_EVERY_S)
        job = await _seen_again(jobs, job.tenant_id, job.id) or job


async def _seen_again(jobs: Jobs, tenant_id: str, job_id: UUID) -> Job | None:
    try:
        return await jobs.find(tenant_id, job_id)
    except Problem:
        return None
