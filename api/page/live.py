"""Parts of a page as server-sent events: `parts` with the HTML of those that have changed, `over` when the
session is."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.page.visit import Visitor, visitor
from api.problems import Problem
from api.server_events import LONGEST_S, QUIET_S, RETRY, STILL_HERE, event, is_over, streamed
from api.services import services

LOOK_EVERY_S = 3.0
Look = Callable[[Visitor], Awaitable[dict[str, str]]]


async def follow(request: Request, found: Visitor, look: Look) -> Response:
    """An answer that goes on while the session does. Raises Problem 503 when too many follow already."""
    return await streamed(_events(request, look), services(request).watching, found.principal.credential)


async def _events(request: Request, look: Look) -> AsyncIterator[bytes]:
    yield RETRY
    began = spoke = time.monotonic()
    last: dict[str, str] = {}
    while time.monotonic() - began < LONGEST_S and not is_over(request):
        now = await _seen(request, look, last)
        if now is None:
            yield event("over", b"{}")
            return
        changed = {name: html for name, html in now.items() if last.get(name) != html}
        if changed:
            last, spoke = now, time.monotonic()
            yield event("parts", orjson.dumps(changed))
        elif time.monotonic() - spoke >= QUIET_S:
            spoke = time.monotonic()
            yield STILL_HERE
        await asyncio.sleep(LOOK_EVERY_S)


async def _seen(request: Request, look: Look, last: dict[str, str]) -> dict[str, str] | None:
    """The parts as they are now; None once the session is over, or its key may see less than before.

    While Redis, or what is looked at, is away it is what was last shown.
    """
    try:
        # Who only has the page open does not use it.
        found = await visitor(request, used=False)
        now = await look(found) if found else None
    except Problem:
        return last
    return None if now is None or last.keys() - now.keys() else now
