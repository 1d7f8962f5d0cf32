"""Ranges of Kafka offsets, counted beside the work by one observe() over a batch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

Place = tuple[str, int]


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


def observe_places(rows: DataFrame, name: str, places: list[Place], *more: Column) -> DataFrame:
    """Observe under `name`: `total`, the range of every place (topic, partition), and `more` aggregates.

    `rows` must have the columns topic, partition and offset.
    """
    ranges = [part for i, place in enumerate(places) for part in _aggregates(i, *place)]
    return rows.observe(name, F.count(F.lit(1)).alias("total"), *ranges, *more)


def _aggregates(number: int, topic: str, partition: int) -> list[Column]:
    # As text: a tenth of the calls into the JVM, of which a domain's places would take a second.
    offset = f"CASE WHEN topic = {_quoted(topic)} AND partition = {partition} THEN offset END"
    named = {"first": "min", "last": "max", "count": "count"}
    return [F.expr(f"{how}({offset}) AS {name}{number}") for name, how in named.items()]


def _quoted(text: str) -> str:
    """As a literal of Spark's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def observed_ranges(observed: dict[str, Any], places: list[Place]) -> Ranges | None:
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


def of_topics(ranges: Ranges, topics: Iterable[str]) -> Ranges:
    """The ranges of these topics."""
    wanted = set(topics)
    return {place: r for place, r in ranges.items() if place.rsplit("-", 1)[0] in wanted}


def last_offsets(ranges: Ranges) -> dict[str, int]:
    """The last offset by topic-partition."""
    return {place: r.last for place, r in ranges.items()}
