"""Around every request: id, security headers, a bound on how many run at once, latency, log line, faults.

The log line has the route, never the path as sent, which may hold personal data.
"""

import logging
import re
import sys
import time
import uuid
from typing import Any

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import LATENCY
from api.problems import Problem, respond, unavailable
from headwater.clock import utc_now
from headwater.log import logger

MAX_IN_FLIGHT = 2048  # before anybody is asked who it is; what bodies hold is bounded in api.room
_TIMED = frozenset({"/ingest", "/ingest/batch"})
_QUIET = frozenset({"/health", "/health/live", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_log = logger(__name__)
_access = logging.getLogger("api.access")


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
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
            exchange.record()

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

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        self._began = time.perf_counter()
        self.status = 0
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Cache-Control"] = "no-store"
        await self._send(message)

    def record(self) -> None:
        """Latency and the log line, once the response is sent."""
        seconds = time.perf_counter() - self._began
        path = self.scope["path"]
        if path in _TIMED:
            LATENCY.observe(seconds)
        if path in _QUIET and self.status < 500:
            return
        found = self.scope.get("route")
        template = getattr(found, "path", "other")  # of parameters their names
        self._write_line(path if path in _TIMED | _QUIET else template, seconds)

    def _write_line(self, route: str, seconds: float) -> None:
        """A line as headwater.log makes them, written directly: the logger costs as much as a request."""
        if not _access.isEnabledFor(logging.INFO):
            return
        line = {
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
        sys.stderr.write(orjson.dumps(line, option=_LINE).decode())
