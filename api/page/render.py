"""Templates → HTML with everything escaped, under headers that let a browser run only our own files."""

import math
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.letters_query import FILTER
from api.page import ops_words
from api.page.areas import UPLOADS, Area, area_of
from api.page.forgery import FIELD, form_token
from api.page.plans import filter_of, moves, pretty
from api.page.visit import SESSION_COOKIE, VISIT_COOKIE, Visitor, drop_cookie, new_visit, set_cookie, visit_of
from api.page.words import NOTHING_IN_STATE, STATES, failure_of, refusal_of, size_text
from api.problems import Problem, document
from api.services import services

JSON = "application/json"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not no-referrer: browsers then send forms with the origin `null`, and https is not seen.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def _moment(moment: datetime) -> str:
    return f"{moment:%-d %b %Y, %H:%M} UTC"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S}"


def _percent(share: float) -> str:
    """Never 100 % where something is missing."""
    return f"{math.floor(share * 1000) / 10:g} %"


def _number(number: int) -> str:
    return f"{number:,}"


_environment = Environment(
    loader=PackageLoader("api.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "size": size_text,
    "number": _number,
    "moment": _moment,
    "clock": _clock,
    "failure": failure_of,
    "moves": moves,
    "pretty": pretty,
    "filter_of": filter_of,
    "percent": _percent,
}
_environment.globals |= {
    "states": STATES,
    "nothing_in_state": NOTHING_IN_STATE,
    "csrf_field": FIELD,
    "words": ops_words,
    "filter_fields": tuple(FILTER),
}


class PageRoute(APIRoute):
    """A route whose refusals are pages too, or JSON for a script that asks for it."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                answer = await handle(request)
            except Problem as problem:
                answer = refused(request, problem)
            answer.headers.update(HEADERS)
            return answer

        return page


def render(
    name: str, visitor: Visitor | None, status: int = 200, area: Area = UPLOADS, **values: Any
) -> Response:
    """A page of somebody who is signed in, or of nobody, who is in this area then."""
    return HTMLResponse(html_of(name, visitor, area, **values), status)


def html_of(name: str, visitor: Visitor | None, area: Area = UPLOADS, **values: Any) -> str:
    """The same as text: a page, or a part of one."""
    token, where = (visitor.form_token, visitor.area) if visitor else ("", area)
    return _environment.get_template(name).render(visitor=visitor, form_token=token, area=where, **values)


def sign_in_page(request: Request, problem: Problem | None = None, after: str = "") -> Response:
    """The form that asks for a key, and why it is shown again; `after` is where it leads to."""
    known = visit_of(request)
    visit = known or new_visit()
    area = area_of(request)
    refusal = refusal_of(problem, services(request).settings, area) if problem else None
    html = _environment.get_template("sign_in.html").render(
        visitor=None, form_token=form_token(visit), area=area, refusal=refusal, after=after
    )
    answer = HTMLResponse(html, problem.status if problem else 200, _headers_of(problem))
    if not known:
        set_cookie(request, answer, VISIT_COOKIE, visit)
    return answer


def front_door(request: Request, problem: Problem | None = None) -> Response:
    """For somebody without a session: the form that asks for a key.

    A link on another site brings no cookie along, so whoever comes by one may be signed in all the same: the
    page that they get first asks again by itself.
    """
    if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        return render("arriving.html", None, area=area_of(request))
    answer = sign_in_page(request, problem, request.url.path if request.method == "GET" else "")
    if SESSION_COOKIE in request.cookies:
        drop_cookie(request, answer, SESSION_COOKIE)
    return answer


def refused(request: Request, problem: Problem) -> Response:
    """What happened and what helps."""
    words = refusal_of(problem, services(request).settings, area_of(request))
    request_id = request.state.request_id
    if request.headers.get("accept", "").startswith(JSON):
        content = document(problem, request_id) | asdict(words)
        return Response(orjson.dumps(content), problem.status, _headers_of(problem), JSON)
    if problem.code == "signed_out":
        return front_door(request, problem)
    known = getattr(request.state, "visitor", None)
    answer = render(
        "refused.html",
        known,
        problem.status,
        area_of(request),
        refusal=words,
        code=problem.code,
        request_id=request_id,
    )
    answer.headers.update(_headers_of(problem))
    return answer


def _headers_of(problem: Problem | None) -> dict[str, str]:
    return dict(problem.headers or {}) if problem else {}
