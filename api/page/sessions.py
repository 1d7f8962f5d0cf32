"""Sign-ins of the pages, kept in Redis: over when somebody signs out, after a while, and with their key.

A session's text holds its key's id, when it is over at the latest, and a random token. Redis has a digest of
it, in one sorted set for a key. The set's name comes from the key's id and digest: a key that is replaced has
no sessions.
"""

import hashlib
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from api.problems import unavailable
from api.redis_client import redis_client
from api.security import KeyRecord
from headwater.log import logger
from headwater.settings import Settings

LIFE_S = 12 * 3600
IDLE_S = 3600  # without a request
TOUCH_EVERY_S = 60  # how exactly it is known when a session was used last
MOST_EACH = 64  # of a key: one more ends the one that was idle longest
REDIS_TIMEOUT_S = 2.0
RETRY_AFTER_S = 5
_TEXT = re.compile(r"([A-Za-z0-9.-]{1,64})\.(\d{10})\.([A-Za-z0-9_-]{43})")
_PREFIX = "headwater:session:"
_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in, as its cookie tells of it; true only if `Sessions.holds` says so."""

    key_id: str
    ends_at: int
    token: str

    def text(self) -> str:
        """What the cookie holds."""
        return f"{self.key_id}.{self.ends_at}.{self.token}"

    @property
    def digest(self) -> str:
        """What Redis holds. Another end is another session."""
        return hashlib.sha256(self.text().encode()).hexdigest()


def parse_session(text: str) -> Session | None:
    """The session of a cookie; None for what cannot be one."""
    found = _TEXT.fullmatch(text)
    return Session(found[1], int(found[2]), found[3]) if found else None


class Sessions:
    """Opens, knows and ends sessions. Everything raises Problem 503 while Redis is away."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        self._redis = redis_client(settings, REDIS_TIMEOUT_S)
        self._clock = clock

    async def open(self, key_id: str, record: KeyRecord) -> Session:
        """A new session of the key's owner."""
        now = self._clock()
        session = Session(key_id, int(now) + LIFE_S, secrets.token_urlsafe(32))
        shelf = _shelf(key_id, record)
        with _redis_faults():
            async with self._redis.pipeline(transaction=True) as steps:
                steps.zremrangebyscore(shelf, "-inf", now)
                steps.zadd(shelf, {session.digest: now + IDLE_S})
                steps.zremrangebyrank(shelf, 0, -(MOST_EACH + 1))
                steps.expire(shelf, LIFE_S)
                await steps.execute()
        return session

    async def holds(self, session: Session, record: KeyRecord, used: bool = True) -> bool:
        """Whether it is a session of this key and not over; if so, and `used`, it has been used just now."""
        now = self._clock()
        if now >= session.ends_at:
            return False
        shelf = _shelf(session.key_id, record)
        with _redis_faults():
            until = await self._redis.zscore(shelf, session.digest)
            if until is None or until <= now:
                return False
            if used and now + IDLE_S - until >= TOUCH_EVERY_S:  # never one that was ended meanwhile: xx
                await self._redis.zadd(shelf, {session.digest: now + IDLE_S}, xx=True)
        return True

    async def end(self, session: Session, record: KeyRecord) -> None:
        """It is over, wherever its cookie may be."""
        with _redis_faults():
            await self._redis.zrem(_shelf(session.key_id, record), session.digest)

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)


def _shelf(key_id: str, record: KeyRecord) -> str:
    return _PREFIX + hashlib.sha256(f"{key_id}\0{record.sha256}".encode()).hexdigest()


@contextmanager
def _redis_faults() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as fault:
        _log.warning("sessions_unavailable", fault=type(fault).__name__)
        raise unavailable("sessions_unavailable", RETRY_AFTER_S) from None
