"""Turns: a driver of many queries drains what is under way before it lets more in.

If each query ran when it liked, they would share the cores: every batch would take as long as all of them
together, and an event, which needs a batch of each stage, several times that. So a query ends a batch by
waiting, its work written, until there is something new for it to read and a core is free; of those that wait,
the one that is furthest from the sources goes first, and of these the one whose tables others wait for; one
whose pace is slow goes behind all others until its time is long over. Where another is about to write what it
reads, it waits a little for that, and takes both at once. What others wait for is theirs as soon as a batch
has written all of it, whatever else the batch has to do.

Turns save time and decide nothing else. A query that is let go for nothing looks and finds nothing; one that
is long at work, or waits for a destination that is away, keeps no other waiting.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

# A place is kept for so long for the look and the plan that come before a batch, and for a batch.
_PLAN_S = 3.0
_BATCH_S = 20.0
# What came so shortly before a batch began, the batch may not have seen.
_LATE_S = 1.0
# Without news a query looks for itself: others write to the lake, too.
_QUIET_S = 30.0
# For so long a query that has news waits for more of it, from those that are at work or about to be.
_MORE_S = 3.0
# Nobody waits for a query whose pace is so slow, or slower.
_UNHURRIED_S = 10.0
_LOOK_S = 0.2
_NEVER = float("-inf")
_LAYERS = ("", "bronze", "silver", "gold", "ops")


class Reader(Protocol):
    """What is to be known of a query. `reads`: the lake's tables that it reads, by name; none when it reads
    from outside. `writes`: those that others wait for, which are the ones that it writes in every batch; they
    may be read when the last of them is written."""

    name: str
    every_s: float
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class Turns:
    """Of one driver. Safe to be used by many threads."""

    def __init__(self, written: Counter[str], places: Callable[[], int]) -> None:
        """`written` counts the writes to each table; `places` says how many batches may run at a time now."""
        self._written = written
        self._places = places
        self._changed = threading.Condition()
        self._counted: Counter[str] = Counter()
        # Moments are monotonic: when there was news in a table, up to when a reader knows it, its last batch.
        self._news: dict[str, float] = {}
        self._known: dict[str, float] = {}
        self._began: dict[str, float] = {}
        # Whose place is kept until when; who waits, the longest first, and whether for a place alone.
        self._kept: dict[str, float] = {}
        self._waiting: dict[str, tuple[Reader, bool]] = {}
        # All that there are, and since when one has news that it has not taken.
        self._readers: dict[str, Reader] = {}
        self._ready_since: dict[str, float] = {}
        # What each table's count was when a batch began that has yet to write it for others.
        self._owed: dict[str, dict[str, int]] = {}

    def begin(self, reader: Reader, halted: Callable[[], bool]) -> float:
        """A batch begins: if no place was kept for it, when there is one, or when `halted`. How many seconds
        it waited."""
        with self._changed:
            arrived = time.monotonic()
            if self._kept.get(reader.name, _NEVER) < arrived:
                self._wait(reader, halted, for_news=False)
            now = time.monotonic()
            self._kept[reader.name] = now + _BATCH_S
            self._began[reader.name] = now
            self._readers[reader.name] = reader
            self._ready_since.pop(reader.name, None)
            self._owed[reader.name] = {name: self._written[name] for name in reader.writes}
            # What it reads was decided a moment ago.
            self._known[reader.name] = max(self._known.get(reader.name, _NEVER), arrived - _LATE_S)
        return now - arrived

    def end(self, reader: Reader) -> None:
        """The batch ended, well or not: others may read what it wrote."""
        with self._changed:
            self._kept.pop(reader.name, None)
            self._owed.pop(reader.name, None)
            self._tell(list(self._written))
            self._changed.notify_all()

    def wait(self, reader: Reader, halted: Callable[[], bool]) -> float:
        """Until the reader's turn has come, or `halted`; how many seconds."""
        began = time.monotonic()
        with self._changed:
            self._wait(reader, halted, for_news=True)
            self._known[reader.name] = time.monotonic()
        return time.monotonic() - began

    def _tell(self, tables: Iterable[str]) -> None:
        """There is news in those that were written since it was told of them last."""
        for name in tables:
            count = self._written[name]
            if count != self._counted[name]:
                self._news[name] = time.monotonic()
                self._counted[name] = count

    def _hand_over(self) -> None:
        """What batches under way have written for others, if it is all of it."""
        for name, owed in list(self._owed.items()):
            if owed and all(self._written[table] > count for table, count in owed.items()):
                self._tell(owed)
                self._owed[name] = {}

    def _wait(self, reader: Reader, halted: Callable[[], bool], *, for_news: bool) -> None:
        since, places = time.monotonic(), self._places()
        self._readers[reader.name] = reader
        self._waiting[reader.name] = (reader, not for_news)
        while not halted() and not self._may_go(reader, since, places, for_news=for_news):
            self._changed.wait(_LOOK_S)
        del self._waiting[reader.name]
        if not for_news or self._is_ready(reader):
            self._kept[reader.name] = time.monotonic() + _PLAN_S
        self._changed.notify_all()

    def _may_go(self, reader: Reader, since: float, places: int, *, for_news: bool) -> bool:
        now = time.monotonic()
        self._hand_over()
        if for_news and not self._is_ready(reader):
            others = not any(name in self._news for name in reader.reads)
            return self._is_due(reader) and (others or now >= since + _QUIET_S)
        free = places - sum(until > now for until in self._kept.values())
        ready = [other for other, anyhow in self._waiting.values() if anyhow or self._is_ready(other)]
        ready = [other for other in ready if not self._expects_more(other, now)]
        ready.sort(key=lambda other: self._rank(other, now), reverse=True)
        return reader in ready[: max(free, 0)]

    def _expects_more(self, reader: Reader, now: float) -> bool:
        """Whether it does well to wait: a query that reads from the lake is about to write what it reads."""
        if now >= self._ready_since.setdefault(reader.name, now) + _MORE_S:
            return False
        return any(
            self._will_write(name, now) or (name in self._waiting and self._is_ready(other))
            for name, other in self._readers.items()
            if name != reader.name and other.reads and not set(reader.reads).isdisjoint(other.writes)
        )

    def _will_write(self, name: str, now: float) -> bool:
        """Whether it is at work, or about to be, and has not yet written what others wait for."""
        return self._kept.get(name, _NEVER) > now and self._owed.get(name) != {}

    def _rank(self, reader: Reader, now: float) -> tuple[bool, int, bool]:
        """Who goes first has the highest."""
        waits = now - self._ready_since.get(reader.name, now)
        hurries = reader.every_s < _UNHURRIED_S or waits >= reader.every_s
        return hurries, _layer(reader), bool(reader.writes)

    def _is_due(self, reader: Reader) -> bool:
        return time.monotonic() >= self._began.get(reader.name, _NEVER) + reader.every_s

    def _is_ready(self, reader: Reader) -> bool:
        known = self._known.get(reader.name, _NEVER)
        news = not reader.reads or any(self._news.get(name, _NEVER) > known for name in reader.reads)
        return news and self._is_due(reader)


def _layer(reader: Reader) -> int:
    """How far from the sources it reads."""
    return max((_LAYERS.index(name.split(".")[0]) for name in reader.reads), default=0)
