"""Whatever clocks do and whenever the archive runs: each record is in one hour, and hours join by offset."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from headwater.offsets import Range
from jobs.archive_plan import Due, look
from sinks.archive.base import HOUR
from sinks.archive.manifest import Manifest
from sources.bronze import Segment, Spans

START = datetime(2026, 3, 1, tzinfo=UTC)
END = START + timedelta(days=40)
PARTITIONS = 2


@dataclass
class Bronze:
    """What a topic looks like: a file for each batch of a partition."""

    files: list[Segment] = field(default_factory=list)
    offsets: dict[int, list[int]] = field(default_factory=lambda: {p: [] for p in range(PARTITIONS)})

    def arrive(self, partition: int, hour: datetime, count: int, skip: int) -> None:
        known = self.offsets[partition]
        first = (known[-1] + 1 if known else 0) + skip
        known += range(first, first + count)
        name = str(len(self.files))
        self.files.append(Segment(name, 0, partition, hour, first, first + count - 1, count, 1))

    def first_arrival(self, since: datetime | None) -> datetime | None:
        return min((file.hour for file in self.segments(since)), default=None)

    def segments(self, since: datetime | None = None, before: datetime | None = None) -> list[Segment]:
        found = [f for f in self.files if (not since or f.hour >= since) and (not before or f.hour < before)]
        return sorted(found, key=lambda file: (file.partition, file.first))


@dataclass
class Archive:
    """The hours that are done, as spans."""

    bronze: Bronze
    hours: list[tuple[datetime, Spans]] = field(default_factory=list)
    done: Manifest | None = None

    def run(self, now: datetime) -> None:
        while (due := look(self.bronze, self.done)) and due.hour + HOUR <= now:  # type: ignore[arg-type]
            self.hours.append((due.hour, due.spans))
            self.done = self._manifest(due)

    def _manifest(self, due: Due) -> Manifest:
        kept: dict[int, Range] = {}
        for partition, (after, last) in due.spans.items():
            held = [offset for offset in self.bronze.offsets[partition] if after < offset <= last]
            kept[partition] = Range(held[0], held[-1], len(held))
        through = {**(self.done.through if self.done else {}), **{p: found.last for p, found in kept.items()}}
        return Manifest("leads", "t", due.hour, 0, 0, (), kept, through, None, "1", "1", "now")


_hours = st.integers(0, 48).map(lambda hours: START + hours * HOUR)
_arrivals = st.tuples(
    st.integers(0, PARTITIONS - 1), _hours, st.integers(1, 3), st.sampled_from([0, 0, 0, 0, 1, 5])
)


@given(st.lists(st.one_of(_arrivals, _hours), max_size=40))
def test_every_record_is_in_one_hour_and_hours_follow_one_another(
    steps: list[tuple[int, datetime, int, int] | datetime],
) -> None:
    """A step is a batch, dated anyhow, or a run of the archive at some moment."""
    bronze = Bronze()
    archive = Archive(bronze)
    for step in steps:
        if isinstance(step, datetime):
            archive.run(step)
        else:
            bronze.arrive(*step)
    for partition in range(PARTITIONS):  # what comes next shows what was dated long before
        bronze.arrive(partition, END, 1, 0)
    archive.run(END + HOUR)
    for partition, offsets in bronze.offsets.items():
        spans = [found[partition] for _, found in archive.hours if partition in found]
        assert [after for after, _ in spans] == [-1, *(last for _, last in spans[:-1])]
        assert spans[-1][1] == offsets[-1]
    hours = [hour for hour, _ in archive.hours]
    assert hours == sorted(set(hours))
