"""ops.dead_letters for the routes."""

from api.lake import Lake
from api.problems import Problem
from sources.letters import groups, newest, one, settle
from sources.letters.groups import Group
from sources.letters.newest import Place
from sources.letters.one import Found
from sources.letters.wanted import Wanted


class Letters:
    """Everything raises Problem 503 while the lake cannot be read, or too many look at once.

    `credential` is the caller's; what it may see, `wanted` says.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    async def newest(
        self, credential: str, wanted: Wanted, limit: int, after: Place | None
    ) -> list[dict[str, object]]:
        """Letters, newest first, from behind the place of one."""
        return await self._lake.ask(credential, newest.newest, wanted, limit, after)

    async def groups(self, credential: str, wanted: Wanted, by: list[str], limit: int) -> list[Group]:
        """The largest groups."""
        return await self._lake.ask(credential, groups.groups, wanted, by, limit)

    async def find(self, credential: str, tenant: str, dead_letter_id: str) -> Found:
        """Raises Problem 404 for a letter that is not there, or is another tenant's, or nobody's."""
        found = await self._lake.ask(credential, one.find, dead_letter_id, tenant)
        if found is None:
            raise Problem(404, "not_found")
        return found

    async def to_discard(self, credential: str, wanted: Wanted) -> list[str]:
        """The ids of new letters. Raises Problem 409 on a lake where none can be discarded."""
        if self._lake.settings.lake_is_remote:
            raise Problem(409, "lake_is_remote")
        return await self._lake.ask(credential, settle.new_ones, wanted)

    async def discard(self, credential: str, ids: list[str]) -> int:
        """Discard those that are new still: how many."""
        return await self._lake.ask(credential, settle.discard, ids)
