"""What people sign in to: each area has a path, whose cookies no other is sent, and scopes that open it."""

import re
from dataclasses import dataclass

from starlette.requests import Request

from api.security import DLQ_READ, JOBS_READ, QUALITY_READ, UPLOAD_WRITE

_UUID = "[0-9a-f-]{36}"


@dataclass(frozen=True)
class Area:
    """A part of the pages. `places` are the paths below it that signing in may lead to."""

    path: str
    name: str
    lead: str
    scopes: frozenset[str]
    places: re.Pattern[str]

    def leads_to(self, after: str) -> str:
        """Where signing in leads: there, or to the front where that is no place of the area."""
        return after if self.places.fullmatch(after) else self.path


UPLOADS = Area(
    "/uploads",
    "uploads",
    "Send files, and see what became of their rows.",
    frozenset({UPLOAD_WRITE, JOBS_READ}),
    re.compile(rf"/uploads/jobs/{_UUID}"),
)
OPS = Area(
    "/ops",
    "operations",
    "See what flows, what was refused and what becomes of it.",
    frozenset({JOBS_READ, DLQ_READ, QUALITY_READ}),
    re.compile(rf"/ops/(letters(/[0-9a-f]{{64}})?|replays(/{_UUID})?)"),
)
QUALITY = Area(
    "/quality",
    "quality",
    "Read the reports of data quality.",
    frozenset({QUALITY_READ}),
    re.compile(r"/quality(/\w[\w.-]*)*", re.ASCII),
)
AREAS = (UPLOADS, OPS, QUALITY)


def area_of(request: Request) -> Area:
    """The one that the request's path is in."""
    first = request.url.path.split("/", 2)[1]
    return next((area for area in AREAS if area.path == f"/{first}"), UPLOADS)
