"""HTTP/1.1 with bounds that the parser lacks, and what it cannot take answered as the app would.

A client has CLIENT_TIMEOUT_S from its connection, and from each answer, to send the next whole head; in that
time it also takes the answer and sends what is left of a refused body. A head has a size, trailers count for
nothing, and a framing that two servers could read in two ways is refused. While the app waits for a body, the
bounds are those of `api.body`.
"""

import asyncio
import uuid
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.metrics import REFUSED
from api.problems import Problem, respond
from headwater.log import logger

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

MAX_CONNECTIONS = 2048  # of one worker
MAX_PIPELINED = 16  # requests that wait behind an answer
MAX_HEAD_BYTES = 32 << 10
MAX_URL_BYTES = 8 << 10
MAX_LEFT_BYTES = 4 << 20  # of a body that nobody reads any more
CLIENT_TIMEOUT_S = 10.0
LINGER_S = 2.0  # between a refusal and the end of the connection, so that the client can read it
_FIELD_BYTES = 4  # colon, space and line end around a field's name and value
_log = logger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    cycle: "RequestResponseCycle | None"  # type: ignore[assignment]  # None until the first head is complete
    _in_head = False
    _head_bytes = 0
    _unread = 0  # bytes since something of a request was understood
    _refused = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._start_clock(CLIENT_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        if self._refused:
            self._check_left()
            return
        self._unset_keepalive_if_required()
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

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            raise Problem(414, "url_too_long")
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head. One behind the body could otherwise bring a credential or a key."""
        if self._in_head:
            self._count(len(name) + len(value) + _FIELD_BYTES)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._check_framing()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise Problem(400, "too_many_pipelined")
        self._in_head = False
        self._unread = 0
        if not self.flow.write_paused:
            self._stop_clock()
        super().on_headers_complete()
        if self.cycle and self.parser.should_upgrade():
            self.cycle.keep_alive = False  # the parser reads nothing behind such a head

    def on_body(self, body: bytes) -> None:
        if self.cycle and not self.cycle.response_complete:
            self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        others_wait = bool(self.pipeline)
        super().on_response_complete()
        if self.pipeline and not self.transport.is_closing():
            self.flow.pause_reading()
        if not others_wait:
            self._start_clock(CLIENT_TIMEOUT_S)

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

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise Problem(431, "head_too_large")

    def _check_left(self) -> None:
        """What the parser holds of one field, or skips of a body, is not told to us: count what came in."""
        if self._refused or (self.cycle and self.cycle.response_complete and not self._in_head):
            if self._unread > MAX_LEFT_BYTES:
                self.transport.abort()
        elif self._unread > 2 * MAX_HEAD_BYTES:
            raise Problem(431, "head_too_large")

    def _check_framing(self) -> None:
        """RFC 9112 §3.2, §6.1: one Host, and no transfer coding but chunked, which HTTP/1.0 does not have."""
        hosts = [1 for name, _ in self.headers if name == b"host"]
        codings = [value.strip().lower() for name, value in self.headers if name == b"transfer-encoding"]
        old = self.parser.get_http_version() == "1.0"
        if len(hosts) > 1 or not (hosts or old) or (codings and old):
            raise Problem(400, "malformed_request")
        if codings not in ([], [b"chunked"]):
            raise Problem(501, "unsupported_transfer_coding")
        sized = any(name == b"content-length" and value != b"0" for name, value in self.headers)
        if self.parser.should_upgrade() and (codings or sized):
            raise Problem(501, "unsupported_upgrade")  # the parser would not read its body

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
        self._stop_clock()
        self._timer = self.loop.call_later(seconds, self._run_out)

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _run_out(self) -> None:
        """Also what is not sent yet is given up: the client may never take it."""
        self._timer = None
        self.transport.abort()


def _as_bytes(problem: Problem, request_id: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    answer = respond(problem, request_id)
    own = [(b"x-request-id", request_id.encode()), (b"connection", b"close")]
    fields = [b"%b: %b\r\n" % field for field in (*headers, *answer.raw_headers, *own)]
    return STATUS_LINE[problem.status] + b"".join(fields) + b"\r\n" + bytes(answer.body)
