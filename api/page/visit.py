"""Who looks at the page: the cookie → a session → the key that it was opened with, as it is now."""

import secrets
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from api.metrics import REFUSED
from api.page.areas import UPLOADS, Area, area_of
from api.page.forgery import form_token
from api.page.sessions import LIFE_S, Session, parse_session
from api.problems import Problem
from api.security import JOBS_READ, REALM, UPLOAD_WRITE, ForbiddenError, Principal
from api.services import services

SESSION_COOKIE = "headwater_session"
VISIT_COOKIE = "headwater_visit"  # of somebody who is not signed in: holds the sign-in form's token
CHALLENGE = {"WWW-Authenticate": f'Bearer realm="{REALM}"'}
_MAX_VISIT = 64


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is signed in."""

    principal: Principal
    session: Session
    area: Area = UPLOADS

    @property
    def form_token(self) -> str:
        return form_token(self.session.token)

    def may(self, *scopes: str) -> bool:
        """Whether all of these are theirs."""
        return self.principal.scopes.issuperset(scopes)

    @property
    def may_upload(self) -> bool:
        return self.may(UPLOAD_WRITE)

    @property
    def may_read(self) -> bool:
        return self.may(JOBS_READ)


async def visitor(request: Request, used: bool = True) -> Visitor | None:
    """Who is signed in; None for nobody. `used`: it counts as a use of the session. Raises Problem 503 while
    Redis is away."""
    room = services(request)
    session = parse_session(request.cookies.get(SESSION_COOKIE, ""))
    record = room.gate.key(session.key_id) if session else None
    if not session or not record or not await room.sessions.holds(session, record, used):
        return None
    return Visitor(record.principal, session, area_of(request))


async def admitted(request: Request, scope: str | None = None) -> Visitor:
    """Who is signed in and may do that. Raises Problem 401, 403 or 429."""
    found = await visitor(request)
    request.state.visitor = found
    if not found:
        raise Problem(401, "signed_out", headers=CHALLENGE)
    if scope and scope not in found.principal.scopes:
        REFUSED.labels("forbidden").inc()
        raise ForbiddenError(found.principal, scope)
    await services(request).pace(request, found.principal)
    return found


def who(request: Request) -> Visitor:
    """Who was admitted to this request."""
    found: Visitor = request.state.visitor
    return found


async def by_session(request: Request, scope: str) -> Principal:
    """The owner of the session's key, who may do that: who acts by a page (api/trail.py)."""
    return (await admitted(request, scope)).principal


def visit_of(request: Request) -> str | None:
    """The secret of a visit without a sign-in, if the cookie holds one."""
    text = request.cookies.get(VISIT_COOKIE, "")
    return text if 0 < len(text) <= _MAX_VISIT else None


def new_visit() -> str:
    return secrets.token_urlsafe(32)


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """For this area only, out of reach of scripts and other sites; Secure where the browser speaks https."""
    response.set_cookie(
        name,
        value,
        max_age=LIFE_S,
        path=area_of(request).path,
        secure=_is_https(request),
        httponly=True,
        samesite="strict",
    )


def drop_cookie(request: Request, response: Response, name: str) -> None:
    path = area_of(request).path
    response.delete_cookie(name, path=path, secure=_is_https(request), httponly=True, samesite="strict")


def _is_https(request: Request) -> bool:
    """Behind a proxy that ends TLS only the browser knows: the Origin of a form that it posts says so."""
    origin = request.headers.get("origin", "")
    return request.url.scheme == "https" or origin.lower().startswith("https://")
