"""Who looks at the page: the cookie → a session → the key that it was opened with, as it is now."""

import secrets
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from api.metrics import REFUSED
from api.page.forgery import form_token
from api.page.sessions import LIFE_S, Session, parse_session
from api.problems import Problem
from api.security import JOBS_READ, QUALITY_READ, REALM, UPLOAD_WRITE, Principal
from api.services import services

PATH = "/uploads"
QUALITY_PATH = "/quality"
# Of one session, each sent to the routes below its path and to no other.
SESSION_COOKIE = "headwater_session"
QUALITY_COOKIE = "headwater_quality_session"  # of whoever may see reports
_PATHS = {QUALITY_COOKIE: QUALITY_PATH}
VISIT_COOKIE = "headwater_visit"  # of somebody who is not signed in: holds the sign-in form's token
CHALLENGE = {"WWW-Authenticate": f'Bearer realm="{REALM}"'}
_MAX_VISIT = 64


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in."""

    principal: Principal
    session: Session

    @property
    def form_token(self) -> str:
        return form_token(self.session.token)

    @property
    def may_upload(self) -> bool:
        return UPLOAD_WRITE in self.principal.scopes

    @property
    def may_read(self) -> bool:
        return JOBS_READ in self.principal.scopes

    @property
    def may_see_quality(self) -> bool:
        return QUALITY_READ in self.principal.scopes


async def visitor(request: Request) -> Visitor | None:
    """Who is signed in; None for nobody. Raises Problem 503 while Redis is away."""
    room = services(request)
    held = request.cookies.get(SESSION_COOKIE) or request.cookies.get(QUALITY_COOKIE, "")
    session = parse_session(held)
    record = room.gate.key(session.key_id) if session else None
    if not session or not record or not await room.sessions.holds(session, record):
        return None
    return Visitor(record.principal, session)


async def admitted(request: Request, scope: str | None = None) -> Visitor:
    """Who is signed in and may do that. Raises Problem 401, 403 or 429."""
    found = await visitor(request)
    request.state.visitor = found
    if not found:
        raise Problem(401, "signed_out", headers=CHALLENGE)
    if scope and scope not in found.principal.scopes:
        REFUSED.labels("forbidden").inc()
        raise Problem(403, "forbidden", headers={"WWW-Authenticate": f"{CHALLENGE['WWW-Authenticate']}"})
    await services(request).pace(request, found.principal)
    return found


def visit_of(request: Request) -> str | None:
    """The secret of a visit without a sign-in, if the cookie holds one."""
    text = request.cookies.get(VISIT_COOKIE, "")
    return text if 0 < len(text) <= _MAX_VISIT else None


def new_visit() -> str:
    return secrets.token_urlsafe(32)


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """For its path only, out of reach of scripts and other sites; Secure where the browser speaks https."""
    path, secure = _PATHS.get(name, PATH), _is_https(request)
    response.set_cookie(
        name, value, max_age=LIFE_S, path=path, secure=secure, httponly=True, samesite="strict"
    )


def drop_cookie(request: Request, response: Response, name: str) -> None:
    path, secure = _PATHS.get(name, PATH), _is_https(request)
    response.delete_cookie(name, path=path, secure=secure, httponly=True, samesite="strict")


def _is_https(request: Request) -> bool:
    """Behind a proxy that ends TLS only the browser knows: the Origin of a form that it posts says so."""
    origin = request.headers.get("origin", "")
    return request.url.scheme == "https" or origin.lower().startswith("https://")
