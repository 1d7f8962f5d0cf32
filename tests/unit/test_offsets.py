"""Ranges of offsets out of an observed row, and the lag out of a query's progress."""

import pytest

from headwater.metrics import LAG
from headwater.offsets import Range, Span, last_offsets, merged, observed_ranges, of_topics
from jobs.progress import _lag

PLACES = [("a.b-c", 0), ("a.b-c", 1), ("x", 0)]


def test_places_without_rows_are_left_out() -> None:
    observed = {
        "total": 5,
        "first0": 3, "last0": 6, "count0": 4,
        "first1": None, "last1": None, "count1": 0,
        "first2": 9, "last2": 9, "count2": 1,
    }  # fmt: skip
    assert observed_ranges(observed, PLACES) == {"a.b-c-0": Range(3, 6, 4), "x-0": Range(9, 9, 1)}


def test_rows_of_an_unknown_partition_make_the_observation_worthless() -> None:
    observed = {"total": 5, "first0": 3, "last0": 6, "count0": 4}
    assert observed_ranges(observed, PLACES) is None


def test_nothing_observed_is_not_the_same_as_no_rows() -> None:
    assert observed_ranges({}, PLACES) is None
    assert observed_ranges({"total": 0}, PLACES) == {}


def test_topics_with_dashes_are_told_apart() -> None:
    ranges = {"a.b-c-0": Range(3, 6, 4), "a.b-0": Range(1, 1, 1)}
    assert of_topics(ranges, ["a.b"]) == {"a.b-0": Range(1, 1, 1)}
    assert last_offsets(ranges) == {"a.b-c-0": 6, "a.b-0": 1}


@pytest.mark.parametrize(
    ("source", "lag"),
    [
        ({"endOffset": {"t": {"0": 5, "1": 2}}, "latestOffset": {"t": {"0": 9, "1": 2}}}, 4),
        ({"endOffset": {"t": {"0": 9}}, "latestOffset": {"t": {"0": 5}}}, 0),
        ({"endOffset": None, "latestOffset": {"t": {"0": 5, "1": 1}}}, 6),
        ({"endOffset": {"reservoirVersion": 7}, "latestOffset": {"reservoirVersion": 9}}, 0),
        ({"endOffset": {"index": 1}, "latestOffset": None, "metrics": {"numFilesOutstanding": "12"}}, 12),
    ],
)
def test_the_lag_counts_records_of_kafka_and_files_of_delta(source: dict[str, object], lag: int) -> None:
    assert _lag("q", source) == lag


def test_the_lag_of_each_partition_is_a_metric() -> None:
    _lag("lagging", {"endOffset": {"t": {"0": 5}}, "latestOffset": {"t": {"0": 9}}})
    (family,) = LAG.collect()
    found = {tuple(sample.labels.values()): sample.value for sample in family.samples}
    assert found["lagging", "t", "0"] == 4


def test_spans_that_touch_or_overlap_become_one_and_a_gap_stays() -> None:
    found = [
        Span("x", 0, 5, 9),
        Span("x", 1, 0, 3),
        Span("x", 0, 0, 4),
        Span("x", 0, 2, 3),
        Span("x", 0, 11, 12),
    ]
    assert merged(found) == [Span("x", 0, 0, 9), Span("x", 0, 11, 12), Span("x", 1, 0, 3)]
    assert merged([]) == []
