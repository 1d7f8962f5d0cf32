"""Requests to a server at a constant rate, each when it is due whether or not earlier ones are answered.

Requests are made beforehand, and none has a coroutine of its own: a sender that is dear measures itself. A
connection carries one request at a time; what is due while all are taken waits, and its latency counts from
when it was due.
"""

import asyncio
import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import uvloop

CONNECTIONS = 64
TICK_S = 0.001  # what falls due within it is sent together
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent, the answer that it must get, and what it is called in the report."""

    kind: str
    status: int
    wire: bytes


def post(kind: str, status: int, path: str, body: bytes, headers: dict[str, str]) -> Request:
    """A POST of HTTP/1.1."""
    fields = {"Host": "load", "Content-Length": str(len(body))} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return Request(kind, status, f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body)


@dataclass
class Answers:
    """What came back. `counts` has "<kind> as due", or the kind and what came instead."""

    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def note(self, due: float, request: Request, found: str) -> None:
        """`found` is the status, or the name of a fault."""
        self.latencies_ms[request.kind].append((time.perf_counter() - due) * 1000)
        self.counts[f"{request.kind} {'as due' if found == str(request.status) else found}"] += 1


def quantiles(found: list[float]) -> dict[str, float]:
    """Of latencies in ms."""
    cuts = statistics.quantiles(found, n=100) if len(found) > 1 else [*found] * 99
    return {
        "p50": round(cuts[49], 1),
        "p95": round(cuts[94], 1),
        "p99": round(cuts[98], 1),
        "max": round(max(found), 1),
    }


def new_runner() -> asyncio.Runner:
    """Where to run `send`: on the quick loop that the servers have, too."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def send(port: int, source: Iterable[Request], rate: float) -> Answers:
    """Send all, so many a second, and wait for the last answer. Raises OSError when nobody listens."""
    load = _Load(port)
    await asyncio.gather(*(load.connect() for _ in range(CONNECTIONS)))
    began = time.perf_counter()
    for number, request in enumerate(source):
        due = began + number / rate
        while time.perf_counter() < due:
            await asyncio.sleep(TICK_S)
        load.take(due, request)
    await load.finish()
    return load.answers


class _Load:
    """The connections that are free, and what waits for one."""

    def __init__(self, port: int) -> None:
        self.answers = Answers()
        self._port = port
        self._free: list[_Line] = []
        self._waiting: deque[tuple[float, Request]] = deque()
        self._left = 0
        self._connecting: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self._failed: BaseException | None = None

    def take(self, due: float, request: Request) -> None:
        """Send it now, or when a connection is free."""
        self._left += 1
        self._waiting.append((due, request))
        self._go_on()

    async def finish(self) -> None:
        """Wait for the last answer, and hang up."""
        while self._left and not self._failed:
            self._settled.clear()
            await self._settled.wait()
        for line in self._free:
            line.hang_up()
        if self._failed:
            raise self._failed

    async def connect(self) -> None:
        """One more connection."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Line(self), "127.0.0.1", self._port)

    def free(self, line: "_Line") -> None:
        """It can take a request."""
        self._free.append(line)
        self._go_on()

    def answered(self, due: float, request: Request, found: str) -> None:
        """By a status, or by the fault that ended the connection."""
        self.answers.note(due, request, found)
        self._left -= 1
        if not self._left:
            self._settled.set()

    def lost(self, line: "_Line", unsent: tuple[float, Request] | None) -> None:
        """The connection is closed; another takes its place, and what it could not send."""
        if line in self._free:
            self._free.remove(line)
        if unsent:
            self._waiting.appendleft(unsent)
        task = asyncio.get_running_loop().create_task(self.connect())
        self._connecting.add(task)
        task.add_done_callback(self._connected)

    def _connected(self, task: "asyncio.Task[None]") -> None:
        self._connecting.discard(task)
        if fault := task.exception():
            self._failed = fault
            self._settled.set()

    def _go_on(self) -> None:
        while self._free and self._waiting:
            self._free.pop().send(*self._waiting.popleft())


class _Line(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._request: tuple[float, Request] | None = None
        self._held = b""
        self._used = self._ours = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._load.free(self)

    def send(self, due: float, request: Request) -> None:
        """Only when it is free."""
        self._request = due, request
        self._transport.write(request.wire)

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(_HEAD_END)
        if end < 0 or self._request is None:
            return
        head = self._held[:end].lower()
        length = int(head.partition(_LENGTH)[2].partition(b"\r\n")[0])
        if len(self._held) < end + len(_HEAD_END) + length:
            return
        (due, request), self._request, self._held, self._used = self._request, None, b"", True
        self._load.answered(due, request, head[9:12].decode())
        if b"connection: close" in head:
            self._transport.close()
        else:
            self._load.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed while it was free, it is only made anew: also when a request had just gone out on it."""
        if self._ours:
            return
        unsent = self._request if self._used and not self._held else None
        if self._request and not unsent:
            self._load.answered(*self._request, type(exc).__name__ if exc else "closed")
        self._load.lost(self, unsent)

    def hang_up(self) -> None:
        """Close it for good."""
        self._ours = True
        self._transport.close()
