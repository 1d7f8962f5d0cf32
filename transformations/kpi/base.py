"""What a KPI is: a gold table, the table that it counts, and how.

Pure: rows of silver in, or of gold that is made of them, rows of gold out. Which keys to count again, and
where their rows lie, is the same for all of them; `jobs build` puts it together.

Columns are made once and kept: each is some calls into the JVM, which every small batch would feel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.tables import Table
from transformations.billing import Books

Transform = Callable[[DataFrame], DataFrame]
_TIMES = ("event_time", "ingested_at", "refined_at")
_PLACE = ("source_topic", "source_partition", "source_offset")


@dataclass(frozen=True)
class Kpi:
    """`key` are columns of gold, the tenant first; `keyed` adds those that `source` lacks. `identity` are
    columns of `source`: of rows that agree in them the newest counts. `measures` are aggregates, one for each
    other column, of the columns that `reads` names.

    `day` is the column that says which day a row of gold is of. `is_long`: the rows of a key may lie on any
    number of days, from `started_at` to `ended_at`; else all are on that day.

    `books` makes the same KPI by the books, `settled` enters its rows into them, and `also` are columns that
    this adds to the key. To all rows there are, `whole` first adds keys that the books alone know, `gone`.
    """

    gold: Table
    source: Table
    key: tuple[str, ...]
    identity: tuple[str, ...]
    keyed: Transform
    measures: Callable[[], Sequence[Column]]
    reads: tuple[str, ...]
    day: str = "window_start"
    is_long: bool = False
    also: tuple[str, ...] = ()
    books: Callable[[Books], "Kpi"] | None = None
    settled: Transform | None = None
    whole: Transform | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of `source` that are needed."""
        names = [name for name in self.key if name in self.source.names]
        return tuple(dict.fromkeys([*names, *self.identity, *self.reads, *_TIMES, "row_version", *_PLACE]))

    def count(self, rows: DataFrame) -> DataFrame:
        """Rows of `source`, all of their keys → rows of gold.

        Columns: those of `gold`, by name. Null rule: a measure of nothing but nulls is null; counts are not.
        """
        once = rows.transform(self.keyed).transform(newest(*self.identity))
        counted = once.groupBy(*self.key).agg(*self.measures(), *lineage())
        return counted.transform(gold_rows(self.gold, self.day))

    def touched(self, rows: DataFrame) -> DataFrame:
        """New rows of `source` → the keys that they change, and the days they are of, once each."""
        return rows.transform(self.keyed).select(*self.key, "event_date").distinct()


@cache
def newest(*identity: str) -> Transform:
    """Of rows that agree in these columns the one with the highest row_version, as sinks keep it."""

    latest = [F.desc("row_version"), F.desc("source_partition"), F.desc("source_offset")]
    nth = F.row_number().over(Window.partitionBy(*identity).orderBy(*latest))

    def apply(rows: DataFrame) -> DataFrame:
        return rows.withColumn("nth", nth).where("nth = 1").drop("nth")

    return apply


def by_the_hour(rows: DataFrame) -> DataFrame:
    """Add `window_start` and `window_end`, the hour of the event time."""
    start = F.date_trunc("hour", "event_time")
    return rows.withColumns({"window_start": start, "window_end": start + F.expr("INTERVAL 1 HOUR")})


@cache
def gold_rows(gold: Table, day: str) -> Transform:
    """What was counted, with its `lineage` → rows of that table; `day` says which day a row is of."""

    version, nothing = F.unix_micros("refined_at"), F.lit(None).cast("string")
    more = {"event_date": F.to_date(day), "row_version": version, "extras": nothing}

    def apply(counted: DataFrame) -> DataFrame:
        return counted.withColumns(more).select(*gold.names)

    return apply


@cache
def lineage() -> list[Column]:
    """Aggregates: the latest of the times, and the place of the newest row."""
    # Rows of gold often have one version: the place decides, and the answer is the same however they lie.
    place = F.max(F.struct("row_version", *_PLACE))
    times = [F.max(name).alias(name) for name in _TIMES]
    return [*times, *[place[name].alias(name) for name in _PLACE]]
