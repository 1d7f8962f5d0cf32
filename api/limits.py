"""How often a credential may call: `rate_per_second` on average, at most `rate_burst` at once.

Counted in Redis, so that all workers share one count, by a sliding window of burst ÷ rate seconds. A worker
takes its share in leases of a twentieth of a second's rate, so that most requests need no round trip; what is
left of a lease lapses with it. While Redis is away each worker counts alone, in memory.
"""

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

import redis.asyncio as aioredis
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from api.redis_client import redis_client
from headwater.log import logger
from headwater.settings import Settings

LEASES_PER_SECOND = 20
LEASE_S = 1.0
COOL_DOWN_S = 5.0  # how long Redis is left alone after a failure
MAX_LEASES = 10_000
_log = logger(__name__)


@dataclass(slots=True)
class _Lease:
    """Requests that may still pass until a moment of the monotonic clock."""

    left: int
    until: float


class RateLimit:
    """Admits or defers a credential's next request."""

    def __init__(self, settings: Settings) -> None:
        rate, burst = settings.api.rate_per_second, settings.api.rate_burst
        seconds = max(1, math.ceil(burst / rate))
        self._item = RateLimitItemPerSecond(rate * seconds, seconds)
        self._share = max(1, rate // LEASES_PER_SECOND)
        self._leases: dict[str, _Lease] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._redis = redis_client(settings, settings.api.redis_timeout_s)
        self._shared = SlidingWindowCounterRateLimiter(_shared_storage(settings, self._redis))
        self._alone = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._away_until = 0.0

    async def admit(self, credential: str) -> int | None:
        """None when the request may pass, else the seconds after which it is worth another try."""
        if self.spend(credential):
            return None
        async with self._lock(credential):  # one lease at a time, else a crowd takes one each
            if self.spend(credential):
                return None
            for cost in sorted({self._share, 1}, reverse=True):
                if await self._hit(credential, cost):
                    self._leases[credential] = _Lease(cost - 1, time.monotonic() + LEASE_S)
                    return None
        return max(1, self._item.get_expiry() // 2)

    def spend(self, credential: str) -> bool:
        """Whether a lease covers the next request, which is most often so: `admit` without waiting."""
        lease = self._leases.get(credential)
        if lease is None or lease.left <= 0 or time.monotonic() >= lease.until:
            return False
        lease.left -= 1
        return True

    def _lock(self, credential: str) -> asyncio.Lock:
        if len(self._locks) >= MAX_LEASES and credential not in self._locks:
            self._locks.clear()
            self._leases.clear()
        return self._locks.setdefault(credential, asyncio.Lock())

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            return await self._shared.storage.check()
        except (RedisError, OSError):
            return False

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _hit(self, credential: str, cost: int) -> bool:
        if time.monotonic() >= self._away_until:
            try:
                return await self._shared.hit(self._item, credential, cost=cost)
            except (RedisError, OSError):
                self._away_until = time.monotonic() + COOL_DOWN_S
                _log.warning("rate_limit_in_memory", seconds=COOL_DOWN_S)
        return await self._alone.hit(self._item, credential, cost=cost)


def _shared_storage(settings: Settings, client: "aioredis.Redis") -> RedisStorage:
    scheme = settings.redis.url.partition("://")[0]
    pool: Any = client.connection_pool  # the package's signature knows plain options only
    return RedisStorage(
        f"async+{scheme}://", implementation="redispy", key_prefix="headwater:rate", connection_pool=pool
    )
