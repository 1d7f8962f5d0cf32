"""Ranges of Kafka offsets, counted beside the work by one observe() over a batch."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as F

Place = tuple[str, int]
PLACE_NUMBER = "place_number"


@dataclass(frozen=True)
class Range:
    """The first and last offset of a topic-partition in a batch, and how many records there were."""

    first: int
    last: int
    count: int


Ranges = dict[str, Range]  # by "topic-partition"


class Span(NamedTuple):
    """Offsets of one partition, the last included."""

    topic: str
    partition: int
    first: int
    last: int


def span_of(place: str, first: int, last: int) -> Span:
    """The offsets of a "topic-partition"."""
    topic, _, partition = place.rpartition("-")
    return Span(topic, int(partition), first, last)


def spans_of(ranges: Ranges) -> list[Span]:
    """What was counted, as spans."""
    return [span_of(place, counted.first, counted.last) for place, counted in ranges.items()]


def merged(found: Iterable[Span]) -> list[Span]:
    """The same offsets in as few spans as there are gaps between them, in order."""
    made: list[Span] = []
    for span in sorted(found):
        before = made[-1] if made else None
        if before and before[:2] == span[:2] and span.first <= before.last + 1:
            made[-1] = before._replace(last=max(before.last, span.last))
        else:
            made.append(span)
    return made


def within(
    found: Iterable[Span], topic: str = "topic", partition: str = "partition", offset: str = "offset"
) -> Column:
    """Whether a row is of these offsets, by the names of its columns; of none without any."""
    parts = [
        f"({topic} = {_quoted(span.topic)} AND {partition} = {span.partition}"
        f" AND {offset} BETWEEN {span.first} AND {span.last})"
        for span in found
    ]
    return F.expr(" OR ".join(parts) or "false")


def observe_places(
    rows: DataFrame, name: str | Observation, places: Sequence[Place], *more: Column
) -> DataFrame:
    """Observe under `name`: `total`, the range of every place (topic, partition), and `more` aggregates.

    `rows` must be `numbered` by the same places, and have the column offset.
    """
    ranges = [part for number in range(len(places)) for part in _aggregates(number)]
    return rows.observe(name, F.count(F.lit(1)).alias("total"), *ranges, *more)


def numbered(places: Sequence[Place]) -> Callable[[DataFrame], DataFrame]:
    """Add PLACE_NUMBER: where in the list a row's topic and partition are; null: nowhere.

    Of a topic all partitions are among `places`, in their order. What is observed of each place is an
    expression that Spark makes, sends and compiles anew for every task: with a number it is short.
    """

    def apply(rows: DataFrame) -> DataFrame:
        return rows.withColumn(PLACE_NUMBER, F.expr(_number(places)))

    return apply


def _number(places: Sequence[Place]) -> str:
    first: dict[str, int] = {}
    for number, (topic, _) in enumerate(places):
        first.setdefault(topic, number)
    size = Counter(topic for topic, _ in places)
    parts = [
        f"WHEN topic = {_quoted(topic)} AND partition < {size[topic]} THEN {number} + partition"
        for topic, number in first.items()
    ]
    return f"CASE {' '.join(parts)} END" if parts else "CAST(NULL AS INT)"


def _aggregates(number: int) -> list[Column]:
    # As text: a tenth of the calls into the JVM, of which a domain's places would take a second.
    offset = f"CASE WHEN {PLACE_NUMBER} = {number} THEN offset END"
    named = {"first": "min", "last": "max", "count": "count"}
    return [F.expr(f"{how}({offset}) AS {name}{number}") for name, how in named.items()]


def _quoted(text: str) -> str:
    """As a literal of Spark's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def observed_ranges(observed: dict[str, Any], places: Sequence[Place]) -> Ranges | None:
    """The ranges of the places that had rows; None when the observation does not cover every row."""
    ranges = {
        f"{topic}-{partition}": Range(observed[f"first{i}"], observed[f"last{i}"], observed[f"count{i}"])
        for i, (topic, partition) in enumerate(places)
        if observed.get(f"count{i}")
    }
    return ranges if sum(r.count for r in ranges.values()) == observed.get("total") else None


def counted_ranges(batch: DataFrame) -> Ranges:
    """The same by a query of its own: for a batch that was not consumed, or has partitions nobody knew of."""
    offset = F.col("offset")
    found = batch.groupBy("topic", "partition").agg(F.min(offset), F.max(offset), F.count(offset)).collect()
    return {f"{row[0]}-{row[1]}": Range(row[2], row[3], row[4]) for row in found}


def ranges_here(rows: pa.Table) -> Ranges:
    """The same of rows that are on the driver."""
    counts = [("offset", "min"), ("offset", "max"), ("offset", "count")]
    found = rows.group_by(["topic", "partition"]).aggregate(counts).to_pylist()
    return {
        f"{row['topic']}-{row['partition']}": Range(row["offset_min"], row["offset_max"], row["offset_count"])
        for row in found
    }


def of_topics(ranges: Ranges, topics: Iterable[str]) -> Ranges:
    """The ranges of these topics."""
    wanted = set(topics)
    return {place: r for place, r in ranges.items() if place.rsplit("-", 1)[0] in wanted}


def last_offsets(ranges: Ranges) -> dict[str, int]:
    """The last offset by topic-partition."""
    return {place: r.last for place, r in ranges.items()}


def reach_beyond(ranges: Ranges, known: Mapping[str, int]) -> bool:
    """Whether any ends behind the last offset that is known of its topic-partition."""
    return any(last > known.get(place, -1) for place, last in last_offsets(ranges).items())
