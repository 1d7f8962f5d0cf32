"""What operators look at, kept for some seconds for all who look: queries, the ledger, letters, quality."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.control import Control
from api.lake import Lake
from api.lately import Lately
from api.letters import Letters
from api.security import Principal
from headwater.clock import utc_now
from sources import ledger, quality_trend
from sources.ledger import Balance, Entry
from sources.letters.groups import Group
from sources.letters.wanted import NEW, Wanted
from sources.quality_trend import Run

SPANS = {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
DEFAULT_SPAN = "24h"
RATE_OVER = timedelta(minutes=5)
MOST_GROUPS = 50
# Read at one look, at about two milliseconds each; the next look goes on with older ones.
MOST_FILES = 500
# Held in memory, of the newest; about a day of three domains that write each second.
MOST_KEPT = 200_000
QUALITY_SPAN = timedelta(days=30)
_LEDGER_S, _LETTERS_S, _QUERIES_S, _QUALITY_S = 5.0, 10.0, 2.0, 30.0


@dataclass(frozen=True)
class Books:
    """A tenant's balances of a span, and the records a second of its streams now. `whole`: all entries of the
    span were read; else those of the newest files."""

    balances: list[Balance]
    rates: dict[str, float]
    whole: bool


@dataclass(frozen=True)
class Refused:
    """A tenant's new letters by stream and reason, since a moment."""

    since: datetime
    groups: list[Group]


class Ops:
    """Everything raises Problem 503 while what it looks at is away. Of letters and records the caller's
    tenant's are shown."""

    def __init__(self, lake: Lake, letters: Letters, control: Control) -> None:
        self._lake, self._letters, self._control = lake, letters, control
        self._read: dict[str, tuple[Entry, ...]] = {}
        self._ledger: Lately[ledger.Look] = Lately(_LEDGER_S)
        self._books: Lately[Books] = Lately(_LEDGER_S)
        self._groups: Lately[Refused] = Lately(_LETTERS_S)
        self._queries: Lately[list[dict[str, Any]]] = Lately(_QUERIES_S)
        self._quality: Lately[tuple[list[Run] | None]] = Lately(_QUALITY_S)

    async def queries(self) -> list[dict[str, Any]]:
        """All queries by their last word (api/control.py)."""
        return await self._queries.get((), self._control.queries)

    async def books(self, caller: Principal, span: str) -> Books:
        """The caller's tenant's balances."""

        async def ask() -> Books:
            look = await self._ledger.get(span, lambda: self._look(caller, span))
            # There may be many entries: events come in meanwhile.
            return await asyncio.to_thread(self._summed, look, caller.tenant_id, SPANS[span])

        return await self._books.get((caller.tenant_id, span), ask)

    async def refused(self, caller: Principal, span: str) -> Refused:
        """The caller's tenant's new letters."""

        async def ask() -> Refused:
            # To the minute, so that links stay the same for a while.
            since = (utc_now() - SPANS[span]).replace(second=0, microsecond=0)
            wanted = Wanted(tenant=caller.tenant_id, status=NEW, since=since)
            by = ["stream", "reason"]
            return Refused(since, await self._letters.groups(caller.credential, wanted, by, MOST_GROUPS))

        return await self._groups.get((caller.tenant_id, span), ask)

    async def quality(self, caller: Principal) -> list[Run] | None:
        """The runs of the last month; None: there is no report yet."""

        async def ask() -> tuple[list[Run] | None]:
            since = utc_now() - QUALITY_SPAN
            return (await self._lake.ask(caller.credential, quality_trend.runs, since),)

        return (await self._quality.get((), ask))[0]

    def _summed(self, look: ledger.Look, tenant: str, span: timedelta) -> Books:
        now = utc_now()
        known = (entry for path in look.paths for entry in self._read.get(path, ()))
        mine = [e for e in known if e.tenant_id == tenant and e.written_at >= now - span]
        return Books(ledger.balances(mine), rates(mine, now), look.whole)

    async def _look(self, caller: Principal, span: str) -> ledger.Look:
        since = utc_now() - SPANS[span]
        look = await self._lake.ask(caller.credential, ledger.look, since, {*self._read}, MOST_FILES)
        self._read |= look.read
        if len(self._read) > MOST_KEPT:
            kept = look.paths[:MOST_KEPT]
            self._read = {path: self._read[path] for path in kept if path in self._read}
        return look


def rates(entries: Iterable[Entry], now: datetime) -> dict[str, float]:
    """Records a second of each stream, over the last minutes."""
    counts: dict[str, int] = {}
    for entry in entries:
        recent = entry.in_rows if entry.written_at > now - RATE_OVER else 0
        counts[entry.stream] = counts.get(entry.stream, 0) + recent
    return {stream: count / RATE_OVER.total_seconds() for stream, count in counts.items()}
