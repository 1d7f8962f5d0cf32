"""Answers that are kept for some seconds, so that many who look cost what one does."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
MOST = 512


class Lately(Generic[T]):
    """Answers by what was asked. Of those who ask the same at once one asks, the others get its answer."""

    def __init__(self, seconds: float, most: int = MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._kept: dict[Hashable, tuple[float, T]] = {}

    async def get(self, key: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer, no older than so many seconds. What `ask` raises is not kept."""
        if len(self._locks) >= self._most and key not in self._locks:
            self._locks.clear()
            self._kept.clear()
        async with self._locks.setdefault(key, asyncio.Lock()):
            until, answer = self._kept.get(key, (0.0, None))
            if answer is None or time.monotonic() >= until:
                answer = await ask()
                self._kept[key] = (time.monotonic() + self._seconds, answer)
            return answer
