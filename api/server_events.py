"""Server-sent events: an answer that goes on, for as many as there is room for."""

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from api.room import Room

MEDIA_TYPE = "text/event-stream"
QUIET_S = 15.0  # then a comment, so that nobody in between takes the connection for dead
LONGEST_S = 900.0  # then the client comes again by itself
RETRY = b"retry: 2000\n\n"  # after so many milliseconds
STILL_HERE = b": still here\n\n"


async def streamed(events: AsyncIterator[bytes], watching: Room, credential: str) -> Response:
    """The answer. Raises Problem 503 when too many follow already."""

    async def watched() -> AsyncIterator[bytes]:
        with watching.taken(credential, 1):
            async for one in events:
                yield one

    stream = watched()
    first = await anext(stream)  # takes the room, or is refused as any request is
    return StreamingResponse(_with(first, stream), media_type=MEDIA_TYPE)


def event(name: str, data: bytes) -> bytes:
    """One of this name; `data` is JSON, hence one line."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def is_over(request: Request) -> bool:
    """Whether the server stops: `api.protocol` says so."""
    return bool(request.scope["state"].get("stopping"))


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for more in rest:
        yield more
