"""Redis as the API speaks to it: few connections, no second try, an answer in time or a fault."""

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from headwater.redis import api_options
from headwater.settings import Settings

CONNECTIONS = 16


def redis_client(settings: Settings, timeout_s: float) -> "aioredis.Redis":
    """A client with a pool of its own; nothing is connected yet."""
    pool = aioredis.BlockingConnectionPool.from_url(
        settings.redis.url,
        max_connections=CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        **api_options(settings.redis),
    )
    return aioredis.Redis(connection_pool=pool)
