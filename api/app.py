"""The application: routes, middleware, error handlers, and what starts and stops with it."""

import gc
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, cast

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from api.direct import Direct, gone
from api.edge import Edge
from api.openapi import complete
from api.problems import Problem, respond
from api.routes import (
    crm,
    dead_letters,
    health,
    ingest,
    jobs,
    metrics,
    page,
    page_doors,
    page_files,
    page_jobs,
    page_letters,
    page_ops,
    page_replays,
    quality,
    replays,
    uploads,
)
from api.services import make_services
from headwater.errors import SetupError
from headwater.log import configure_logging
from headwater.settings import Settings, load_settings
from headwater.version import CODE_VERSION
from headwater.worker import keep_for_good

GC_THRESHOLD = 20_000  # objects; requests leave next to no cycles behind
METHOD_NOT_ALLOWED = 405
_CODES = {404: "not_found", METHOD_NOT_ALLOWED: "method_not_allowed"}
_CORS_HEADERS = (
    "Authorization", "Content-Encoding", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-Id"
)  # fmt: skip


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The app, from the outside in: Edge, CORS if there are origins, Direct, FastAPI.

    Raises SetupError when the configuration or a credential file is wrong.
    """
    configure_logging()
    settings = settings or load_settings()
    app = FastAPI(
        title="Headwater ingestion API",
        version=CODE_VERSION,
        lifespan=_lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = make_services(settings)
    # Replays before letters: `replays` is no letter's id.
    programs = (ingest, health, metrics, uploads, jobs, crm, replays, dead_letters)
    pages = (page_files, page_doors, page_jobs, page, page_letters, page_replays, page_ops, quality)
    routers = [topic.router for topic in (*programs, *pages)]
    for router in routers:
        app.include_router(router)
    app.state.methods = _methods(routers)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_failure)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # the way FastAPI documents
    return Edge(_allow_origins(Direct(app, ingest.router), settings.api.cors_origins))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    await app.state.services.start()
    keep_for_good()
    gc.set_threshold(GC_THRESHOLD)
    yield
    await app.state.services.stop()


def _allow_origins(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    if any(origin in ("*", "null") for origin in origins):
        raise SetupError("api.cors_origins: list exact origins; * and null are not allowed")
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=_CORS_HEADERS,
        expose_headers=("X-Request-Id", "Retry-After"),
    )


async def _on_problem(request: Request, problem: Exception) -> Response:
    return respond(cast(Problem, problem), request.state.request_id)


async def _on_http_exception(request: Request, fault: Exception) -> Response:
    found = cast(HTTPException, fault)
    code = _CODES.get(found.status_code, "refused")
    headers = _allowing(request) if found.status_code == METHOD_NOT_ALLOWED else found.headers
    return respond(Problem(found.status_code, code, headers=headers), request.state.request_id)


def _allowing(request: Request) -> dict[str, str]:
    """Allow with all methods of a path that several routes share: Starlette names those of the first."""
    path = getattr(request.scope.get("route"), "path", "")
    return {"Allow": ", ".join(sorted(request.app.state.methods[path]))}


def _methods(routers: Iterable[APIRouter]) -> dict[str, set[str]]:
    """Those of each path."""
    found: dict[str, set[str]] = defaultdict(set)
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        found[route.path] |= route.methods or set()
    return found


async def _on_disconnect(request: Request, _fault: Exception) -> Response:
    return gone(request.state.request_id)


async def _on_failure(request: Request, _fault: Exception) -> Response:
    """Starlette raises the fault again behind the answer, and Edge writes it down."""
    return respond(Problem(500, "internal_error"), request.state.request_id)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, routes=app.routes)
        app.openapi_schema = complete(found)
    return app.openapi_schema
