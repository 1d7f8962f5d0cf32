"""The lake for the routes: asked in threads of their own, a few at a time; a remote one in processes of their
own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from api.problems import unavailable
from api.room import Room
from headwater.errors import HeadwaterError, SetupError
from headwater.log import logger
from headwater.settings import Settings
from sources.letters.apart import apart

AT_ONCE = 4  # of one worker: each reads files and uses a processor
AT_ONCE_EACH = 2
RETRY_AFTER_S = 5
T = TypeVar("T")
_log = logger(__name__)


class Lake:
    """One of a worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._room = Room(AT_ONCE, AT_ONCE_EACH)
        self._threads = ThreadPoolExecutor(AT_ONCE, "lake")

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(self, credential: str, ask: Callable[..., T], *told: Any) -> T:
        """What `ask` gives for the settings and these. `credential` is the caller's.

        Raises Problem 503 while the lake cannot be read, or too many look at once.
        """
        loop = asyncio.get_running_loop()
        way = (ask, self.settings, *told)
        with self._room.taken(credential, 1):
            try:
                found: T = await loop.run_in_executor(
                    self._threads, *((apart, *way) if self.settings.lake_is_remote else way)
                )
            except HeadwaterError as fault:
                log = _log.error if isinstance(fault, SetupError) else _log.warning
                log("lake_failed", reason=str(fault))
                raise unavailable("lake_unavailable", RETRY_AFTER_S) from None
        return found
