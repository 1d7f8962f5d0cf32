"""GET /quality: the quality reports that `jobs report` has written, as they lie in quality.folder.

For programs by key or token, for people by a session: both need quality:read. The reports tell
of all tenants, in counts.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from api.openapi import CREDENTIALS, refusals
from api.page.areas import QUALITY
from api.page.render import HEADERS, Handler, PageRoute
from api.page.visit import admitted
from api.problems import Problem
from api.security import QUALITY_READ
from api.services import services

INDEX = "index.html"
# Reports and Data Docs are pages that need nothing but themselves. What else lies there is not served.
_FOLDERS = ("docs",)
_TYPE = "text/html; charset=utf-8"
_MAX_PATH = 1024
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_PROGRAM = ("x-api-key", "authorization")


class QualityRoute(PageRoute):
    """Refusals are pages for whoever asks for pages, and problem+json for programs."""

    def get_route_handler(self) -> Handler:
        as_page, as_program = super().get_route_handler(), super(PageRoute, self).get_route_handler()

        async def handle(request: Request) -> Response:
            accepts = "text/html" in request.headers.get("accept", "")
            by_key = any(name in request.headers for name in _PROGRAM)
            answer = await (as_page if accepts and not by_key else as_program)(request)
            if isinstance(answer, FileResponse):
                answer.headers.update(HEADERS | {"Content-Security-Policy": _POLICY})
            return answer

        return handle


router = APIRouter(prefix=QUALITY.path, route_class=QualityRoute, tags=["quality"])


@router.get(
    "",
    status_code=307,
    response_class=Response,
    responses={307: {"description": "To the page."}, **refusals(401, 403, 404, 429, 503)},
    openapi_extra={"security": CREDENTIALS},
)
async def front(request: Request) -> Response:
    """The newest quality report. It holds counts of all tenants, and no value."""
    await _admit(request)
    await run_in_threadpool(_file, _root(request), INDEX)
    return RedirectResponse(f"{QUALITY.path}/{INDEX}")


@router.get("/{path:path}", include_in_schema=False)
async def page(request: Request) -> Response:
    """The report's page, or one of the Data Docs that it leads to."""
    await _admit(request)
    file = await run_in_threadpool(_file, _root(request), request.path_params["path"])
    return FileResponse(file, headers={"Content-Type": _TYPE})


async def _admit(request: Request) -> None:
    if any(name in request.headers for name in _PROGRAM):
        await services(request).admit(request, QUALITY_READ)
    else:
        await admitted(request, QUALITY_READ)


def _root(request: Request) -> Path:
    return services(request).settings.quality.root


def _file(root: Path, path: str) -> Path:
    """The file of that name below the folder. Raises Problem 404 for all that is no page of a report: other
    files, hidden ones, and whatever leads out of the folder."""
    parts = path.split("/")
    served = path == INDEX or (parts[0] in _FOLDERS and path.endswith(".html"))
    if not served or len(path) > _MAX_PATH or any(_is_odd(part) for part in parts):
        raise Problem(404, "no_report")
    try:
        file = (root / path).resolve(strict=True)
    except (OSError, RuntimeError):
        raise Problem(404, "no_report") from None
    if not file.is_relative_to(root.resolve()) or not file.is_file():
        raise Problem(404, "no_report")
    return file


def _is_odd(part: str) -> bool:
    return part.startswith(".") or not part.isprintable() or "\\" in part or not part
