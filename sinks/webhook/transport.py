"""One POST to a connector: its name is looked up once, the addresses are checked, a checked one is dialled.

httpcore follows no redirects, reads no proxy from the environment and verifies the certificate by the URL's
name, whichever address was dialled.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from urllib.parse import SplitResult, urlsplit

import httpcore
from httpcore import SOCKET_OPTION

from headwater.clock import utc_now
from headwater.errors import SetupError
from sinks.webhook.addresses import Address, Allowed, RefusedAddressError, parse

MAX_ANSWER_BYTES = 4096
_TLS_PORT, _PLAIN_PORT = 443, 80
Resolve = Callable[[str, int], Awaitable[list[str]]]


@dataclass(frozen=True)
class Answer:
    """A status, or why there is none: timeout, connection, protocol, address_refused."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None


def checked_url(connector: str, url: str) -> SplitResult:
    """The URL in parts. Raises SetupError unless it is http(s) with a host, and without a login."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.password:
        raise SetupError(f"connectors.{connector}.url must be https://host/path, without a login in it")
    return parts


async def resolve(host: str, port: int) -> list[str]:
    """The system's resolver: every spelling of an address that the system would dial ends as that address."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Dials what it has checked, and nothing else."""

    def __init__(self, allowed: Allowed, tls: bool, resolve: Resolve = resolve) -> None:
        self._allowed = allowed
        self._tls = tls
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises RefusedAddressError if any of the name's addresses is refused."""
        failed: Exception | None = None
        for address in await self.addresses(host, port):
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as fault:
                failed = fault
        raise failed or httpcore.ConnectError("the name has no address")

    async def addresses(self, host: str, port: int) -> list[Address]:
        """The name's addresses, each of them allowed."""
        try:
            found = [parse(text) for text in await self._resolve(host, port)]
        except (OSError, UnicodeError) as fault:
            raise httpcore.ConnectError("the name is not known") from fault
        for address in found:
            self._allowed.check(host, address, tls=self._tls)
        return found


class Sender:
    """Posts to one connector; connections are kept from one request to the next while it is open.

    Each request under way has a connection to itself. httpcore's pool would look at all of them, and for a
    package that is not installed, several times a request: more CPU than the request takes.
    """

    def __init__(
        self, url: SplitResult, backend: CheckedBackend, context: ssl.SSLContext, timeout_s: float
    ) -> None:
        self._url = httpcore.URL(url.geturl())
        self._backend = backend
        self._context = context
        self._timeout_s = timeout_s
        self._idle: list[httpcore.AsyncHTTPConnection] = []

    async def __aenter__(self) -> "Sender":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        fault: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    async def post(self, headers: dict[str, str], content: bytes) -> Answer:
        """Never raises for what the other side does. The answer's body is read up to 4 KiB, and dropped."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(headers, content)
        except (TimeoutError, httpcore.TimeoutException):
            return Answer(error="timeout")
        except RefusedAddressError:
            return Answer(error="address_refused")
        except (httpcore.NetworkError, ssl.SSLError, OSError):
            return Answer(error="connection")
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            return Answer(error="protocol")

    async def _post(self, headers: dict[str, str], content: bytes) -> Answer:
        connection = await self._connection()
        async with connection.stream(
            "POST", self._url, headers=list(headers.items()), content=content
        ) as response:
            kept = {name.lower(): value for name, value in response.headers}
            read = 0
            async for chunk in response.aiter_stream():
                read += len(chunk)
                if read > MAX_ANSWER_BYTES:
                    break
            answer = Answer(response.status, retry_after_s=retry_after(kept.get(b"retry-after"), utc_now()))
        # Not after a fault, nor an answer that was not read to its end: httpcore has closed those.
        if connection.is_available():
            self._idle.append(connection)
        return answer

    async def _connection(self) -> httpcore.AsyncHTTPConnection:
        """One that waits for its next request and that the other side has not closed, or a new one."""
        while self._idle:
            waiting = self._idle.pop()
            if not waiting.has_expired():
                return waiting
            await waiting.aclose()
        return httpcore.AsyncHTTPConnection(
            self._url.origin, ssl_context=self._context, network_backend=self._backend
        )


def retry_after(value: bytes | None, now: datetime) -> float | None:
    """Seconds to wait (RFC 9110 §10.2.3: seconds or a date); None for none, or one that cannot be read."""
    text = (value or b"").decode("ascii", "replace").strip()
    if text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the latter of a year of twenty digits
        return None
    return max(0.0, (moment - now).total_seconds()) if moment.tzinfo else None
