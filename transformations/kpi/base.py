"""What a KPI is: a gold table, the silver table that it counts, and how.

Pure: rows of silver in, rows of gold out. Which keys to count again, and where their rows lie, is the same
for all of them; `jobs build` puts it together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from schemas.tables import Table

Transform = Callable[[DataFrame], DataFrame]
_PLACE = ("source_topic", "source_partition", "source_offset")


@dataclass(frozen=True)
class Kpi:
    """`key` are columns of gold, the tenant first; `keyed` adds those that silver lacks. `identity` are
    columns of silver: of rows that agree in them the newest counts. `measures` are aggregates, one for each
    other column. `is_long`: the rows of a key may lie on any number of days, from `started_at` to `ended_at`;
    else all are on the day of the key's `window_start`."""

    gold: Table
    silver: Table
    key: tuple[str, ...]
    identity: tuple[str, ...]
    keyed: Transform
    measures: Callable[[], Sequence[Column]]
    is_long: bool = False

    def count(self, silver: DataFrame) -> DataFrame:
        """Rows of silver, all of their keys → rows of gold.

        Columns: those of `gold`, by name. Null rule: a measure of nothing but nulls is null; counts are not.
        """
        rows = silver.transform(self.keyed).transform(newest(*self.identity))
        counted = rows.groupBy(*self.key).agg(*self.measures(), *_lineage())
        day = F.to_date("started_at" if self.is_long else "window_start")
        version, nothing = F.unix_micros("refined_at"), F.lit(None).cast("string")
        made = counted.withColumns({"event_date": day, "row_version": version, "extras": nothing})
        return made.select(*_names(self.gold))

    def touched(self, silver: DataFrame) -> DataFrame:
        """New rows of silver → the keys that they change, and the days they are of, once each."""
        return silver.transform(self.keyed).select(*self.key, "event_date").distinct()


def newest(*identity: str) -> Transform:
    """Of rows that agree in these columns the one with the highest row_version, as sinks keep it."""

    def apply(rows: DataFrame) -> DataFrame:
        latest = [F.desc("row_version"), F.desc("source_partition"), F.desc("source_offset")]
        order = Window.partitionBy(*identity).orderBy(*latest)
        return rows.withColumn("nth", F.row_number().over(order)).where(F.col("nth") == 1).drop("nth")

    return apply


def by_the_hour(rows: DataFrame) -> DataFrame:
    """Add `window_start` and `window_end`, the hour of the event time."""
    start = F.date_trunc("hour", "event_time")
    return rows.withColumns({"window_start": start, "window_end": start + F.expr("INTERVAL 1 HOUR")})


def _lineage() -> list[Column]:
    place = F.max_by(F.struct(*_PLACE), "row_version")
    times = [F.max(name).alias(name) for name in ("event_time", "ingested_at", "refined_at")]
    return [*times, *[place[name].alias(name) for name in _PLACE]]


def _names(table: Table) -> list[str]:
    """The columns in their order; commas inside of brackets do not separate."""
    depth, names = 0, [""]
    for letter in table.columns:
        depth += (letter in "<(") - (letter in ">)")
        if letter == "," and not depth:
            names.append("")
        else:
            names[-1] += letter
    return [name.split()[0] for name in names]
