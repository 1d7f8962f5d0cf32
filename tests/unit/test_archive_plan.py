"""Which hour comes next and which offsets are its own; how an hour is cut into slices that fit in memory."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from headwater.errors import SetupError
from headwater.offsets import Range
from jobs.archive_plan import Counted, Due, check_order, differences, next_hour, window_of
from sinks.archive.base import hour_folder, parse_hour
from sinks.archive.manifest import Manifest
from sources.bronze import Segment, slices

TEN = datetime(2026, 3, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def seg(hour: int, first: int, last: int, partition: int = 0, size: int = 10, path: str = "a") -> Segment:
    """A segment of some hours after ten, without gaps."""
    return Segment(path, 0, partition, TEN + hour * HOUR, first, last, last - first + 1, size)


def done(hour: int = 0, through: dict[int, int] | None = None, **partitions: Range) -> Manifest:
    """A manifest of an hour."""
    kept = {int(name[1:]): found for name, found in partitions.items()}
    ends = through or {partition: found.last for partition, found in kept.items()}
    return Manifest("leads", "lead.ingest", TEN + hour * HOUR, 0, 0, (), kept, ends, None, "1", "1", "now")


def planned(
    parts: list[Segment], before: Manifest | None = None
) -> tuple[int, dict[int, tuple[int, int]]] | None:
    """Hours after ten, and the spans."""
    found = next_hour(parts, before)
    return found and ((found.hour - TEN) // HOUR, found.spans)


@pytest.mark.parametrize(
    ("what", "parts", "before", "expected"),
    [
        ("nothing is there", [], None, None),
        ("all is archived", [seg(0, 0, 9)], done(through={0: 9}), None),
        ("the first hour of several", [seg(0, 0, 9), seg(1, 10, 19)], None, (0, {0: (-1, 9)})),
        ("the next one", [seg(0, 0, 9), seg(1, 10, 19)], done(through={0: 9}), (1, {0: (9, 19)})),
        ("hours without records are passed over", [seg(5, 10, 19)], done(through={0: 9}), (5, {0: (9, 19)})),
        (
            "a partition that was idle has nothing in the hour",
            [seg(0, 0, 9), seg(1, 0, 4, partition=1)],
            None,
            (0, {0: (-1, 9)}),
        ),
        (
            "a partition that is new begins at its first offset",
            [seg(1, 10, 19), seg(1, 0, 4, partition=1)],
            done(through={0: 9}),
            (1, {0: (9, 19), 1: (-1, 4)}),
        ),
        (
            "what came late into an hour that is done goes into the one after it",
            [seg(0, 10, 12)],
            done(through={0: 9}),
            (1, {0: (9, 12)}),
        ),
        (
            "together with what arrived in that one",
            [seg(0, 10, 12), seg(1, 13, 19)],
            done(through={0: 9}),
            (1, {0: (9, 19)}),
        ),
        (
            "what a fast clock dated later goes with what followed it",
            [seg(7, 0, 4), seg(0, 5, 9)],
            None,
            (0, {0: (-1, 9)}),
        ),
    ],
)
def test_the_next_hour(
    what: str,
    parts: list[Segment],
    before: Manifest | None,
    expected: tuple[int, dict[int, tuple[int, int]]] | None,
) -> None:
    assert planned(parts, before) == expected, what


def test_hours_join_whatever_order_their_times_have() -> None:
    parts = [seg(2, 0, 9), seg(0, 10, 19), seg(1, 20, 29), seg(0, 30, 39), seg(3, 40, 49)]
    before, hours = None, []
    while found := next_hour(parts, before):
        hours.append((found.hour, found.spans[0]))
        before = replace(done(through={0: found.spans[0][1]}), hour=found.hour)
    assert hours == [(TEN, (-1, 39)), (TEN + 3 * HOUR, (39, 49))]


def test_an_hour_with_a_gap_is_known_as_such() -> None:
    whole, gap = [seg(0, 0, 4), seg(0, 5, 9)], [seg(0, 0, 4), seg(0, 6, 9)]
    assert [Due(TEN, {0: (-1, 9)}, tuple(parts)).is_gapless for parts in (whole, gap)] == [True, False]


@pytest.mark.parametrize(
    ("after", "last", "count"), [(-1, 19, 20), (9, 19, 10), (19, 30, 0), (-1, 4, None), (4, 19, None)]
)
def test_records_are_counted_by_whole_segments_or_not_at_all(
    after: int, last: int, count: int | None
) -> None:
    assert Counted([seg(0, 0, 9), seg(0, 10, 19)])(0, after, last) == count


@pytest.mark.parametrize(
    ("what", "parts", "faults"),
    [
        ("bronze agrees", [seg(0, 0, 9)], 0),
        ("bronze was purged", [], 0),
        ("bronze lost some", [seg(0, 0, 4)], 1),
        ("bronze has some twice", [seg(0, 0, 9), seg(0, 0, 4, path="b")], 1),
    ],
)
def test_a_manifest_is_held_against_bronze(what: str, parts: list[Segment], faults: int) -> None:
    found = differences(Counted(parts), done(p0=Range(0, 9, 10)))
    assert len(found) == faults, what
    assert all("lead.ingest 2026-03-01T10:00:00.000Z" in fault for fault in found)


def cut(parts: list[Segment], size: int) -> list[list[int]]:
    return [[part.first for part in some] for some in slices(parts, size)]


def test_slices_hold_about_so_many_bytes_and_at_least_one_segment() -> None:
    parts = [seg(0, n * 10, n * 10 + 9, size=size) for n, size in enumerate((10, 10, 10, 50, 10))]
    assert cut(parts, 25) == [[0, 10], [20], [30], [40]]


def test_segments_that_overlap_are_never_parted() -> None:
    parts = [seg(0, 0, 30), seg(0, 5, 9), seg(0, 20, 40), seg(0, 41, 50)]
    assert cut(parts, 10) == [[0, 5, 20], [41]]


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-03-01T10", TEN),
        ("2026-03-01T10:00:00Z", TEN),
        ("2026-03-01T12:00+02:00", TEN),
        ("2026-03-01", TEN - 10 * HOUR),
    ],
)
def test_an_hour_is_read_in_utc(text: str, hour: datetime) -> None:
    assert parse_hour(text) == hour


@pytest.mark.parametrize("text", ["", "now", "2026-03-01T10:30", "2026-03-01T10:00:00.5", "2026-13-01T10"])
def test_what_is_no_hour_is_refused(text: str) -> None:
    with pytest.raises(SetupError):
        parse_hour(text)


def test_a_window_has_both_ends_and_one_that_ends_before_it_begins_is_refused() -> None:
    window = window_of("2026-03-01T10", "2026-03-01T11")
    assert [window.holds(TEN + n * HOUR) for n in (-1, 0, 1, 2)] == [False, True, True, False]
    with pytest.raises(SetupError, match="later"):
        window_of("2026-03-01T11", "2026-03-01T10")


def test_a_window_that_would_leave_out_an_hour_is_refused() -> None:
    due = next_hour([seg(0, 0, 9)], None)
    assert due
    check_order("lead.ingest", due, window_of("2026-03-01T10", None))
    with pytest.raises(SetupError, match=r"lead\.ingest 2026-03-01T10.*--from 2026-03-01T10"):
        check_order("lead.ingest", due, window_of("2026-03-01T11", None))


def test_folders_are_those_that_readers_know() -> None:
    assert hour_folder("lead.ingest", TEN - HOUR) == "topic=lead.ingest/date=2026-03-01/hour=09"
