"""Which hour of a topic comes next, and which offsets are its own: by what bronze has and the archive lacks.

An hour takes, of each partition, all that follows the hours before it, up to the last offset that arrived in
it. So hours hold ranges of offsets that join without gap or overlap, whatever clocks do (ADR 0028).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from headwater.errors import QualityError, SetupError
from sinks.archive.base import HOUR, hour_text, parse_hour
from sinks.archive.manifest import Manifest
from sources.bronze import Segment, Spans, Topic, within


@dataclass(frozen=True)
class Window:
    """The hours that a run may archive, both ends included; None: from the first, to the last."""

    first: datetime | None = None
    last: datetime | None = None

    def holds(self, hour: datetime) -> bool:
        """Whether the hour is one of them."""
        return (self.first is None or hour >= self.first) and (self.last is None or hour <= self.last)


def window_of(first: str | None, last: str | None) -> Window:
    """A window as the command line says it."""
    window = Window(*[parse_hour(given) if given else None for given in (first, last)])
    if window.first and window.last and window.first > window.last:
        raise SetupError("archive: --from is later than --until")
    return window


class Counted:
    """How many records segments have of a partition, behind an offset and up to another."""

    def __init__(self, parts: Iterable[Segment]) -> None:
        found: dict[int, list[tuple[int, int, int]]] = {}
        for part in parts:
            found.setdefault(part.partition, []).append((part.first, part.last, part.count))
        self._columns = {partition: np.array(rows).T for partition, rows in found.items()}

    def __call__(self, partition: int, after: int, last: int) -> int | None:
        """None when a segment is only partly among them."""
        if partition not in self._columns:
            return 0
        firsts, lasts, counts = self._columns[partition]
        among = (lasts > after) & (firsts <= last)
        if (among & ((firsts <= after) | (lasts > last))).any():
            return None
        return int(counts[among].sum())


@dataclass(frozen=True)
class Due:
    """The next hour of a topic, its offsets by partition, and where bronze has them."""

    hour: datetime
    spans: Spans
    parts: tuple[Segment, ...]

    @property
    def counts(self) -> dict[int, int | None]:
        """How many records bronze has of each partition; None where that cannot be told from the segments."""
        counted = Counted(self.parts)
        return {partition: counted(partition, *span) for partition, span in self.spans.items()}

    @property
    def is_gapless(self) -> bool:
        """Whether there is a record for every offset."""
        counts = self.counts
        return all(counts[p] == last - after for p, (after, last) in self.spans.items())


def look(topic: Topic, done: Manifest | None) -> Due | None:
    """The next hour after `done`, whether it is over or not; None when the archive has all of bronze.

    Files of the last hour and the next are looked at; all files where those do not tell a whole story.
    QualityError where bronze and the last hour's manifest differ.
    """
    done_until = done.hour + HOUR if done else None
    arrival = topic.first_arrival(done_until)
    begins = max(filter(None, (arrival and floor(arrival), done_until)), default=None)
    parts = topic.segments(done.hour if done else None, begins and begins + HOUR)
    found = next_hour(parts, done)
    faults = differences(Counted(parts), done) if done else []
    # Records before a gap, and files that were archived with an earlier hour, hide what is dated elsewhere.
    tells_all = found.is_gapless if found else arrival is None
    if faults or not tells_all:
        parts = topic.segments()
        found = next_hour(parts, done)
        faults = differences(Counted(parts), done) if done else []
    if faults:
        raise QualityError(f"archive: {'; '.join(faults)}")
    return found


def next_hour(parts: Sequence[Segment], done: Manifest | None) -> Due | None:
    """The hour of the first records that are not in the archive, or the first that is not done, if later."""
    through = done.through if done else {}
    left = [part for part in parts if part.last > through.get(part.partition, -1)]
    if not left:
        return None
    hour = min(part.hour for part in left)
    if done:
        hour = max(hour, done.hour + HOUR)
    ends: dict[int, int] = {}
    for part in left:
        if part.hour <= hour:
            ends[part.partition] = max(part.last, ends.get(part.partition, -1))
    spans = {partition: (through.get(partition, -1), end) for partition, end in sorted(ends.items())}
    return Due(hour, spans, tuple(within(left, spans)))


def differences(bronze: Counted, done: Manifest) -> list[str]:
    """What bronze and an hour's manifest disagree on, a sentence each. Of records that bronze has no longer,
    nothing is known."""
    found = []
    for partition, kept in sorted(done.partitions.items()):
        there = bronze(partition, kept.first - 1, kept.last)
        if there and there != kept.count:
            found.append(
                f"{done.topic} {hour_text(done.hour)}: bronze has {there} records of partition {partition} "
                f"from offset {kept.first} to {kept.last}, the archive has {kept.count}"
            )
    return found


def check_order(topic: str, due: Due, window: Window) -> None:
    """Raise SetupError where a window begins behind an hour that is not archived: hours join each other."""
    if window.first is not None and due.hour < window.first:
        raise SetupError(
            f"archive: {topic} {hour_text(due.hour)} comes first, and is not archived yet: "
            f"begin there (--from {due.hour:%Y-%m-%dT%H}), or leave --from out"
        )


def floor(moment: datetime) -> datetime:
    """The beginning of its hour."""
    return moment.replace(minute=0, second=0, microsecond=0)
