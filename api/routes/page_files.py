"""Style, scripts and icon of the pages, in each area; there is nothing else, from here or elsewhere."""

from importlib import resources

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.page.areas import AREAS
from api.page.render import PageRoute
from api.problems import Problem

_TYPES = {
    "page.css": "text/css; charset=utf-8",
    "upload.js": "text/javascript; charset=utf-8",
    "follow.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FILES = {name: (resources.files("api.page") / "files" / name).read_bytes() for name in _TYPES}
router = APIRouter(route_class=PageRoute, include_in_schema=False)


async def file(request: Request) -> Response:
    """One of the list, by its name."""
    name = request.path_params["name"]
    if name not in _FILES:
        raise Problem(404, "not_found")
    return Response(_FILES[name], media_type=_TYPES[name])


for _area in AREAS:
    router.add_api_route(f"{_area.path}/files/{{name}}", file, methods=["GET"])
