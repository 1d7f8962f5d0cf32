"""POST /upload: a file → storage and a PENDING job; 202 only for what is whole, durable and queued."""

from contextlib import aclosing

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.form import file_of
from api.intake import Taken, check, receiving, take
from api.jobs import shown
from api.models import JobModel, QueuedModel
from api.openapi_uploads import UPLOAD as DOCUMENTED
from api.openapi_uploads import UPLOAD_REFUSALS
from api.query import UPLOAD, asked, missing
from api.security import UPLOAD_WRITE
from api.services import services
from sources.import_jobs import PENDING

JSON = "application/json"
router = APIRouter(tags=["uploads"])


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
    async with receiving(room, request) as body:
        wanted = asked(request, UPLOAD)
        if "dataset" not in wanted:
            raise missing("dataset")
        with room.uploading.taken(caller.credential, 1):
            await check(room, request)
            async with aclosing(body.chunks()) as chunks:
                file = file_of(request.headers.get("content-type", ""), chunks, wanted.get("name"))
                return _answer(await take(room, caller, file, wanted))


def _answer(taken: Taken) -> Response:
    if taken.known:
        status, content = 200, shown(taken.known)
    else:
        status, content = 202, {"job_id": str(taken.job_id), "status": PENDING}
    return Response(orjson.dumps(content), status, {"Location": f"/jobs/{taken.job_id}"}, JSON)
