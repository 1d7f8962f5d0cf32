"""Reading a request's body: type, encoding, size and time are checked while it streams in.

A body that is too large is never held: it stops at the limit, packed and unpacked, and the rest is read into
nothing for a moment so that the client sees the answer rather than a reset.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator

from starlette.requests import Request

from api.problems import Fault, Problem

WHOLE_BODY = "headwater.whole_body"  # among a scope's extensions; its "take" gives the body, None: not yet
READ_TIMEOUT_S = 10.0
DRAIN_BYTES = 4 << 20
DRAIN_S = 2.0
_GZIP_WINDOW = 31  # zlib's number for "gzip header, largest window"


async def read_body(request: Request, media_type: str, limit: int) -> bytes:
    """The unpacked body, at most `limit` bytes. Raises Problem 400, 408, 413 or 415."""
    _check_type(request, media_type)
    packed = _is_gzip(request)
    whole = _whole(request)
    if whole is not None and not packed and len(whole) <= limit:
        return whole
    stream = request.stream() if whole is None else _nothing_behind(whole)
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            if declared_size(request) > limit:
                raise _TooLarge
            return await (_unpack(stream, limit) if packed else _collect(stream, limit))
    except TimeoutError:
        raise Problem(408, "body_timeout", headers={"Connection": "close"}) from None
    except _TooLarge:
        await drain(request, stream)
        message = f"is larger than {limit} bytes"
        errors = (Fault("", "too_large", message),)
        raise Problem(413, "too_large", errors, {"Connection": "close"}) from None
    except zlib.error:
        raise Problem(400, "malformed_encoding", headers={"Connection": "close"}) from None


def _whole(request: Request) -> bytes | None:
    """The body when all of it has come with the head, as most do: there is nothing to wait for."""
    extension = request.scope.get("extensions", {}).get(WHOLE_BODY)
    found: bytes | None = extension["take"]() if extension else None
    return found


async def _nothing_behind(whole: bytes) -> AsyncIterator[bytes]:
    yield whole


class _TooLarge(Exception):
    """The body passed its limit."""


async def _collect(stream: AsyncIterator[bytes], limit: int) -> bytes:
    held = bytearray()
    async for chunk in stream:
        if len(held) + len(chunk) > limit:
            raise _TooLarge
        held += chunk
    return bytes(held)


async def _unpack(stream: AsyncIterator[bytes], limit: int) -> bytes:
    """Unpack gzip, several members too; both sizes count against the limit."""
    held, packed_size = bytearray(), 0
    member = zlib.decompressobj(_GZIP_WINDOW)
    async for chunk in stream:
        packed_size += len(chunk)
        if packed_size > limit:
            raise _TooLarge
        while chunk:
            if member.eof:
                member = zlib.decompressobj(_GZIP_WINDOW)
            held += member.decompress(chunk, limit + 1 - len(held))
            if len(held) > limit:
                raise _TooLarge
            chunk = member.unused_data or member.unconsumed_tail
    if packed_size and not member.eof:
        raise zlib.error("cut off")
    return bytes(held)


async def drain(request: Request, stream: AsyncIterator[bytes]) -> None:
    """Read a refused body into nothing for a moment, so that the client sees the answer."""
    if "expect" in request.headers:  # the client waits for our word before it sends
        return
    left = DRAIN_BYTES
    try:
        async with asyncio.timeout(DRAIN_S):
            async for chunk in stream:
                left -= len(chunk)
                if left < 0:
                    return
    except TimeoutError:
        return


def _check_type(request: Request, media_type: str) -> None:
    given, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.replace(" ", "").replace('"', "").lower()
    if given.strip().lower() != media_type or charset not in ("", "charset=utf-8"):
        raise Problem(415, "unsupported_media_type", headers={"Accept-Post": media_type})


def _is_gzip(request: Request) -> bool:
    encodings = ",".join(request.headers.getlist("content-encoding")).replace(" ", "").lower()
    if encodings not in ("", "identity", "gzip"):
        raise Problem(415, "unsupported_encoding", headers={"Accept-Encoding": "gzip"})
    return encodings == "gzip"


def declared_size(request: Request) -> int:
    """What Content-Length says, 0 without one."""
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdigit() else 0
