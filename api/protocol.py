"""HTTP/1.1 with bounds that the parser lacks, and what it cannot take answered as the app would.

A client has CLIENT_TIMEOUT_S from its connection, and from each answer, to send the next whole head; in that
time it also takes the answer and sends what is left of a refused body. A head has a size, trailers count for
nothing, and a framing that two servers could read in two ways is refused. While the app waits for a body, the
bounds are those of `api.body`.
"""

import asyncio
import math
import uuid
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.body import WHOLE_BODY
from api.cycle import Cycle
from api.metrics import REFUSED
from api.problems import Problem, respond
from headwater.log import logger

MAX_CONNECTIONS = 2048  # of one worker
MAX_PIPELINED = 16  # requests that wait behind an answer
MAX_HEAD_BYTES = 32 << 10
MAX_URL_BYTES = 8 << 10
KNOWN_URLS = 64
MAX_LEFT_BYTES = 4 << 20  # of a body that nobody reads any more
CLIENT_TIMEOUT_S = 10.0
LINGER_S = 2.0  # between a refusal and the end of the connection, so that the client can read it
_FIELD_BYTES = 4  # colon, space and line end around a field's name and value
_FRAMING = frozenset({b"host", b"transfer-encoding", b"content-length", b"expect"})
_PLAIN = ([b"content-length", b"host"], [b"host"])
_log = logger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    cycle: Cycle | None  # type: ignore[assignment]  # None until the first head is complete
    _in_head = False
    _head_bytes = 0
    _unread = 0  # bytes since something of a request was understood
    _refused = False
    _quiet_since: float | None = None  # the last answer, as long as nothing has come behind it
    _until = math.inf  # when the client's time is over
    _timer: asyncio.TimerHandle | None = None
    _rings = math.inf  # when the timer looks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._start_clock(CLIENT_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        if self._refused:
            self._check_left()
            return
        self._quiet_since = None
        try:
            self.parser.feed_data(data)
            self._check_left()
        except httptools.HttpParserUpgrade:
            pass  # the answer ends the connection
        except (httptools.HttpParserError, Problem) as fault:
            cause = fault if isinstance(fault, Problem) else fault.__context__
            self._refuse(cause if isinstance(cause, Problem) else Problem(400, "malformed_request"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0
        self._framing: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise Problem(414, "url_too_long")
        self._head_bytes += len(url)  # less than a head may have

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head. One behind the body could otherwise bring a credential or a key."""
        if self._in_head:
            self._head_bytes += len(name) + len(value) + _FIELD_BYTES
            if self._head_bytes > MAX_HEAD_BYTES:
                raise Problem(431, "head_too_large")
            name = name.lower()
            self.headers.append((name, value))
            if name in _FRAMING:
                self._framing.append((name, value))
                if name == b"expect" and value.lower() == b"100-continue":
                    self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        self._check_framing()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Problem(400, "too_many_pipelined")
        self._in_head = False
        self._unread = 0
        if not self.flow.write_paused:
            self._stop_clock()
        self._describe()
        # Behind a head that asks for another protocol the parser reads nothing.
        lasting = self._version != "1.0" and self.parser.should_keep_alive()
        cycle = self._new_cycle(lasting and not self.parser.should_upgrade())
        idle, self.cycle = not self._answering(), cycle
        if idle:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        if self.cycle and not self.cycle.response_complete:
            self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but one timer serves all that a connection waits for."""
        self.server_state.total_requests += 1
        if not self.pipeline:
            self._start_clock(CLIENT_TIMEOUT_S)
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if not self.pipeline:
            self._quiet_since = self.loop.time()
            return
        self._start_asgi_task(*self.pipeline.pop())
        if self.pipeline:
            self.flow.pause_reading()

    def shutdown(self) -> None:
        """The server stops: whoever streams an answer without an end is told, and ends it."""
        if self.cycle and self._answering():
            self.cycle.scope.setdefault("state", {})["stopping"] = True
        super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_clock(CLIENT_TIMEOUT_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering():
            self._stop_clock()

    def _describe(self) -> None:
        """What a scope says of the request's first line."""
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]  # whose type has each key as required
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = self._version
        scope["path"], scope["raw_path"], scope["query_string"] = _taken_apart(self.url)

    def _new_cycle(self, keep_alive: bool) -> Cycle:
        cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        self.scope["extensions"] = {WHOLE_BODY: {"take": cycle.take_whole}}
        return cycle

    def _check_left(self) -> None:
        """What the parser holds of one field, or skips of a body, is not told to us: count what came in."""
        if self._refused or (self.cycle and self.cycle.response_complete and not self._in_head):
            if self._unread > MAX_LEFT_BYTES:
                self.transport.abort()
        elif self._unread > 2 * MAX_HEAD_BYTES:
            raise Problem(431, "head_too_large")

    def _check_framing(self) -> None:
        """RFC 9112 §3.2, §6.1: one Host, and no transfer coding but chunked, which HTTP/1.0 does not have."""
        self._version = self.parser.get_http_version()
        old = self._version == "1.0"
        if self._is_plain() and not old:
            return
        hosts = sum(name == b"host" for name, _ in self._framing)
        codings = [value.strip().lower() for name, value in self._framing if name == b"transfer-encoding"]
        if hosts > 1 or not (hosts or old) or (codings and old):
            raise Problem(400, "malformed_request")
        if codings not in ([], [b"chunked"]):
            raise Problem(501, "unsupported_transfer_coding")
        sized = any(name == b"content-length" and value != b"0" for name, value in self._framing)
        if self.parser.should_upgrade() and (codings or sized):
            raise Problem(501, "unsupported_upgrade")  # the parser would not read its body

    def _is_plain(self) -> bool:
        """Whether there is nothing to judge: one Host, at most one length beside it, no other protocol."""
        names = [name for name, _ in self._framing]
        return sorted(names) in _PLAIN and not self.parser.should_upgrade()

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, problem: Problem) -> None:
        """Answer what cannot be read, behind the answers that are under way, and read nothing more."""
        self._refused = True
        REFUSED.labels(problem.code).inc()
        if self.cycle and self._answering():
            self.cycle.keep_alive = False
            if self.pipeline or not self.cycle.more_body:
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        request_id = uuid.uuid4().hex
        _log.info("request_not_read", code=problem.code, status=problem.status, request_id=request_id)
        self.transport.write(_as_bytes(problem, request_id, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._start_clock(LINGER_S)

    def _start_clock(self, seconds: float) -> None:
        """A timer that is set already only looks again: to set one costs more than to note a moment."""
        now = self.loop.time()
        self._until = now + seconds
        self._ring_at(min(self._until, now + self.timeout_keep_alive))

    def _stop_clock(self) -> None:
        self._until = math.inf

    def _ring_at(self, moment: float) -> None:
        if self._timer and self._rings <= moment:
            return
        if self._timer:
            self._timer.cancel()
        self._rings = moment
        self._timer = self.loop.call_at(moment, self._ring)

    def _ring(self) -> None:
        """Give up a client whose time is over; also what is not sent yet: it may never take it."""
        self._timer = None
        now = self.loop.time()
        idle_until = math.inf if self._quiet_since is None else self._quiet_since + self.timeout_keep_alive
        if now >= self._until:
            self.transport.abort()
        elif now >= idle_until:
            self._quiet_since = None
            self.transport.close()  # behind what is not sent yet, for which it waits no longer than this
            self._start_clock(CLIENT_TIMEOUT_S)
        elif (soonest := min(self._until, idle_until)) < math.inf:
            self._ring_at(soonest)


@lru_cache(KNOWN_URLS)
def _taken_apart(url: bytes) -> tuple[str, bytes, bytes]:
    """Path, path as sent, query. Most requests have one of a few URLs."""
    found = httptools.parse_url(url)
    path = found.path.decode("ascii")
    return unquote(path) if "%" in path else path, found.path, found.query or b""


def _as_bytes(problem: Problem, request_id: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    answer = respond(problem, request_id)
    own = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
    fields = [b"%b: %b\r\n" % field for field in (*headers, *answer.raw_headers, *own)]
    return STATUS_LINE[problem.status] + b"".join(fields) + b"\r\n" + bytes(answer.body)
