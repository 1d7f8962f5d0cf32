"""ops.dead_letters for the routes: read and marked in threads of their own, a few at a time; of a remote lake
in processes of their own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from api.problems import Problem, unavailable
from api.room import Room
from headwater.errors import HeadwaterError, SetupError
from headwater.log import logger
from headwater.settings import Settings
from sources.letters import groups, newest, one, settle
from sources.letters.apart import apart
from sources.letters.groups import Group
from sources.letters.newest import Place
from sources.letters.one import Found
from sources.letters.wanted import Wanted

AT_ONCE = 4  # of one worker: each reads files and uses a processor
AT_ONCE_EACH = 2
RETRY_AFTER_S = 5
T = TypeVar("T")
_log = logger(__name__)


class Letters:
    """Everything raises Problem 503 while the lake cannot be read, or too many look at once.

    `credential` is the caller's; what it may see, `wanted` says.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._room = Room(AT_ONCE, AT_ONCE_EACH)
        self._threads = ThreadPoolExecutor(AT_ONCE, "letters")

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def newest(
        self, credential: str, wanted: Wanted, limit: int, after: Place | None
    ) -> list[dict[str, object]]:
        """Letters, newest first, from behind the place of one."""
        return await self._asked(credential, newest.newest, self._settings, wanted, limit, after)

    async def groups(self, credential: str, wanted: Wanted, by: list[str], limit: int) -> list[Group]:
        """The largest groups."""
        return await self._asked(credential, groups.groups, self._settings, wanted, by, limit)

    async def find(self, credential: str, tenant: str, dead_letter_id: str) -> Found:
        """Raises Problem 404 for a letter that is not there, or is another tenant's, or nobody's."""
        found = await self._asked(credential, one.find, self._settings, dead_letter_id, tenant)
        if found is None:
            raise Problem(404, "not_found")
        return found

    async def to_discard(self, credential: str, wanted: Wanted) -> list[str]:
        """The ids of new letters. Raises Problem 409 on a lake where none can be discarded."""
        if self._settings.lake_is_remote:
            raise Problem(409, "lake_is_remote")
        return await self._asked(credential, settle.new_ones, self._settings, wanted)

    async def discard(self, credential: str, ids: list[str]) -> int:
        """Discard those that are new still: how many."""
        return await self._asked(credential, settle.discard, self._settings, ids)

    async def _asked(self, credential: str, ask: Callable[..., T], *told: Any) -> T:
        loop = asyncio.get_running_loop()
        way = (apart, ask, *told) if self._settings.lake_is_remote else (ask, *told)
        with self._room.taken(credential, 1):
            try:
                found: T = await loop.run_in_executor(self._threads, *way)
            except HeadwaterError as fault:
                log = _log.error if isinstance(fault, SetupError) else _log.warning
                log("lake_failed", reason=str(fault))
                raise unavailable("lake_unavailable", RETRY_AFTER_S) from None
        return found
