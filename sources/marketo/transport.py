"""One call of Marketo by HTTP, to its host and no other: no redirects, no proxy from the environment."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from urllib.parse import SplitResult, urlencode, urlsplit

import httpcore

from headwater.errors import SetupError
from sources.marketo.answers import Answer

# A record made of it, with every letter escaped, still is not larger than a topic takes (24 MiB).
MAX_ANSWER_BYTES = 8 << 20
# Marketo takes 8 KiB of address and query; more goes as the body of a POST that says it means GET.
_LONGEST_QUERY = 6000
_FORM = ("Content-Type", "application/x-www-form-urlencoded")


def checked_base(base_url: str, plain_hosts: Iterable[str]) -> str:
    """The address without a slash at its end. Raises SetupError unless it is https://host."""
    parts = _parts(base_url)
    if parts is None or parts.username or parts.password:
        raise SetupError("marketo.base_url must be https://host, without a login in it")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise SetupError("marketo.base_url must end behind the host: no /rest, no /identity")
    if parts.scheme == "http" and (parts.hostname or "") not in plain_hosts:
        raise SetupError("marketo.base_url must be https; marketo.plain_hosts does not list its host")
    return f"{parts.scheme}://{parts.netloc}"


def _parts(url: str) -> SplitResult | None:
    """None for what is no address of a host."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("https", "http") and parts.hostname and url.isascii() and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


class Transport:
    """Keeps a connection from one call to the next while it is good. All from one thread."""

    def __init__(self, base: str, timeout_s: float) -> None:
        """`base` as `checked_base` gives it; `timeout_s` is for a whole call."""
        self._base = base
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context()
        self._idle: httpcore.AsyncHTTPConnection | None = None
        self._runner: asyncio.Runner | None = None

    def get(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """Never raises for what the other side does."""
        self._runner = self._runner or asyncio.Runner()
        return self._runner.run(self._get(path, urlencode(query, safe=","), dict(headers)))

    def close(self) -> None:
        """Give back the connection; `get` may follow."""
        if self._runner is not None:
            self._runner.run(self._drop())
            self._runner.close()
            self._runner = None

    async def _get(self, path: str, query: str, headers: dict[str, str]) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                if len(query) > _LONGEST_QUERY:
                    url = f"{self._base}{path}?_method=GET"
                    return await self._ask("POST", url, [*headers.items(), _FORM], query.encode())
                return await self._ask("GET", f"{self._base}{path}?{query}", [*headers.items()], None)
        except (TimeoutError, httpcore.TimeoutException):
            return Answer(error="timeout")
        except (httpcore.NetworkError, ssl.SSLError, OSError):
            return Answer(error="connection")
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            return Answer(error="protocol")

    async def _ask(
        self, method: str, url: str, headers: list[tuple[str, str]], content: bytes | None
    ) -> Answer:
        connection = await self._connection(httpcore.URL(url).origin)
        body = bytearray()
        async with connection.stream(method, url, headers=headers, content=content) as response:
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    return Answer(error="too_large")
        # After a fault, or an answer that was not read to its end, httpcore has closed it.
        if connection.is_available():
            self._idle = connection
        return Answer(response.status, bytes(body))

    async def _connection(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        """The one that waits, if the other side has not closed it, or a new one."""
        waiting, self._idle = self._idle, None
        if waiting is not None and not waiting.has_expired():
            return waiting
        if waiting is not None:
            await waiting.aclose()
        return httpcore.AsyncHTTPConnection(origin, ssl_context=self._tls)

    async def _drop(self) -> None:
        waiting, self._idle = self._idle, None
        if waiting is not None:
            await waiting.aclose()
