"""PostgreSQL as the API's role may use it: one pool of a worker, whose faults are answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from api.problems import Problem, unavailable
from headwater.errors import SetupError
from headwater.log import logger
from headwater.postgres import api_conninfo, classified, sqlstate_of
from headwater.settings import Settings

RETRY_AFTER_S = 5
CONNECTIONS = 8  # of one worker
WAITING = 256
GIVE_UP_S = 3.0  # on a connection that cannot be made; the next request tries anew
SESSION = "-c jit=off -c timezone=UTC -c lock_timeout=5s -c statement_timeout=10s"
_log = logger(__name__)


class Database:
    """Connections in autocommit. Everything raises Problem 503 while PostgreSQL is away."""

    def __init__(self, settings: Settings) -> None:
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] = AsyncConnectionPool(
            api_conninfo(settings.postgres, SESSION),
            kwargs={"autocommit": True},
            min_size=0,
            max_size=CONNECTIONS,
            max_waiting=WAITING,
            timeout=GIVE_UP_S,
            reconnect_timeout=GIVE_UP_S,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def start(self) -> None:
        """Ready for use; PostgreSQL need not be there."""
        await self._pool.open(wait=False)

    async def stop(self) -> None:
        await self._pool.close()

    @asynccontextmanager
    async def connection(self, where: str) -> AsyncIterator[AsyncConnection[Any]]:
        """One for the table `where`. Faults become 503, and are logged by their code: the text of one may
        quote a row."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (PoolTimeout, TooManyRequests):
            raise _away() from None
        except psycopg.Error as fault:
            found = classified(sqlstate_of(fault), where)
            log = _log.error if isinstance(found, SetupError) else _log.warning
            log("postgres_failed", reason=str(found))
            raise _away() from None


def _away() -> Problem:
    return unavailable("postgres_unavailable", RETRY_AFTER_S)
