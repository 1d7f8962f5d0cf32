"""The routes that take nearly all requests, without the layers that FastAPI and Starlette put around a route.

The app documents them too, and answers the methods that they do not have.
"""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.fields import Fields
from api.problems import Problem, respond

Endpoint = Callable[[Request], Awaitable[Response]]


class DirectRequest(Request):
    """A request whose head is read once."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._headers = Fields(scope["headers"])


class Direct:
    """ASGI: what the router has, here; all else by the app."""

    def __init__(self, app: FastAPI, router: APIRouter) -> None:
        self._app = app
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            (method, route.path): route.endpoint
            for route in router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = scope["type"] == "http" and self._endpoints.get((scope["method"], scope["path"]))
        if not endpoint:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        try:
            response = await endpoint(DirectRequest(scope, receive, send))
        except Problem as problem:
            response = respond(problem, scope["state"]["request_id"])
        except ClientDisconnect:
            response = gone(scope["state"]["request_id"])
        await response(scope, receive, send)


def gone(request_id: str) -> Response:
    """The answer to a client that has left: nobody is there to read it."""
    return respond(Problem(400, "client_disconnected"), request_id)
