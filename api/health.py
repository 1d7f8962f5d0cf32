"""What the API depends on, and whether it answers."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request

from api.events import contract
from api.services import Services, services

CACHE_S = 2.0
KAFKA_TIMEOUT_S = 2.0


class Health:
    """The dependencies' state, looked at most every CACHE_S seconds and by one request at a time."""

    def __init__(self, room: Services) -> None:
        self._room = room
        self._lock = asyncio.Lock()
        self._seen = float("-inf")
        self._last: dict[str, Any] = {}

    async def look(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() - self._seen >= CACHE_S:
                self._last = await self._ask()
                self._seen = time.monotonic()
        return self._last

    async def _ask(self) -> dict[str, Any]:
        reachable = asyncio.to_thread(self._room.publisher.reachable, contract().topic, KAFKA_TIMEOUT_S)
        kafka, *others = await asyncio.gather(
            _timed(reachable),
            _timed(self._room.rate.ping()),
            _timed(self._room.jobs.reachable()),
            _timed(self._room.registry.reachable()),
        )
        status = "degraded" if any(other["status"] == "down" for other in others) else "ok"
        if kafka["status"] == "down":
            status = "down"
        found = dict(zip(("kafka", "redis", "postgres", "registry"), (kafka, *others), strict=True))
        return {"status": status, "dependencies": found}


async def _timed(answer: Awaitable[bool]) -> dict[str, Any]:
    began = time.perf_counter()
    status = "ok" if await answer else "down"
    return {"status": status, "latency_ms": round((time.perf_counter() - began) * 1000, 1)}


def health_of(request: Request) -> Health:
    """That of the app, of which there is one."""
    state: Health | None = getattr(request.app.state, "health", None)
    if state is None:
        state = request.app.state.health = Health(services(request))
    return state
