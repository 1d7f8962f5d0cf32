"""Around every request: id, security headers, a bound on how many run at once, latency, log line, faults.

The log line has the route, never the path as sent, which may hold personal data.
"""

import logging
import os
import re
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access_log import AccessLog
from api.metrics import LATENCY
from api.problems import Problem, respond, unavailable
from headwater.clock import utc_now
from headwater.log import logger

MAX_IN_FLIGHT = 2048  # before anybody is asked who it is; what bodies hold is bounded in api.room
_TIMED = frozenset({"/ingest", "/ingest/batch"})
_QUIET = frozenset({"/health", "/health/live", "/metrics"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ID_BYTES = 16
_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_log = logger(__name__)
_access = logging.getLogger("api.access")


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_flight = 0
        self._access_log = AccessLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            self._access_log.flush()
            return
        exchange = _Exchange(scope, send)
        self._in_flight += 1
        try:
            if self._in_flight > MAX_IN_FLIGHT and scope["path"] not in _QUIET:
                refusal = respond(unavailable("busy", 1), exchange.request_id)
                await refusal(scope, receive, exchange.send)
            else:
                await self._run(exchange, receive)
        finally:
            self._in_flight -= 1
            exchange.record(self._access_log)

    async def _run(self, exchange: "_Exchange", receive: Receive) -> None:
        try:
            await self._app(exchange.scope, receive, exchange.send)
        except Exception:
            _log.exception("request_failed", request_id=exchange.request_id)
            if exchange.status == 0:
                failure = respond(Problem(500, "internal_error"), exchange.request_id)
                await failure(exchange.scope, receive, exchange.send)


class _Exchange:
    """One request and its response."""

    __slots__ = ("_began", "_send", "_state", "request_id", "scope", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self._began = time.perf_counter()
        self.status = 0
        self.request_id = _request_id(scope)
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self.request_id.encode())
            message["headers"] = [*message["headers"], own, *_ALWAYS]
        await self._send(message)

    def record(self, access_log: AccessLog) -> None:
        """Latency and the log line, once the response is sent."""
        seconds = time.perf_counter() - self._began
        path = self.scope["path"]
        if path in _TIMED:
            LATENCY.observe(seconds)
        if (path in _QUIET and self.status < 500) or not _access.isEnabledFor(logging.INFO):
            return
        found = self.scope.get("route")
        template = getattr(found, "path", "other")  # of parameters their names
        access_log.add(self._line(path if path in _TIMED | _QUIET else template, seconds))

    def _line(self, route: str, seconds: float) -> dict[str, Any]:
        """As headwater.log makes them."""
        return {
            "event": "request",
            "event_id": self._state.get("event_id"),
            "level": "info",
            "logger": _access.name,
            "method": self.scope["method"],
            "ms": round(seconds * 1000, 1),
            "request_id": self.request_id,
            "route": route,
            "status": self.status,
            "tenant_id": self._state.get("tenant_id"),
            "timestamp": utc_now(),
        }


def _request_id(scope: Scope) -> str:
    """The client's, if it has the right form, else a new one. Of several the first counts."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            if _REQUEST_ID.fullmatch(value):
                return value.decode()  # type: ignore[no-any-return]  # a scope's values have no types
            break
    return os.urandom(_ID_BYTES).hex()
