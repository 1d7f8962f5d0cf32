"""Rows that a few keys are counted of again, read from a local lake without Spark.

Spark takes a second and more to read a Delta table, however few rows of it are wanted, and a build reads some
in every batch. What is counted of them, and how, is the same.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession

from headwater.delta_log import read_days
from headwater.delta_merge import GONE
from headwater.settings import Settings
from headwater.tables import frame_of, table_path
from transformations.kpi.base import Kpi

FEW_KEYS = 10_000
_ROW = "row"
# What an hour says of the day that it is of: others are counted of it, also when it is gone.
HOUR = "window_start"
DAYS = ("day", "event_date")


def few_days(settings: Settings, kpi: Kpi, touched: pa.Table) -> list[date]:
    """The days on which the touched keys have rows in the source; gold's rows are of one of them."""
    days = set(touched["event_date"].to_pylist())
    if kpi.is_long:
        names = (*kpi.key, "started_at", "ended_at")
        gold = read_days(table_path(settings, kpi.gold.full_name), names, None, _named(kpi, touched))
        spans = zip(gold["started_at"].to_pylist(), gold["ended_at"].to_pylist(), strict=True)
        for first, last in spans:
            length = (last.date() - first.date()).days
            days |= {first.date() + timedelta(days=more) for more in range(length + 1)}
    return sorted(days)


def few_rows(
    spark: SparkSession, settings: Settings, kpi: Kpi, touched: pa.Table, days: Sequence[date]
) -> DataFrame:
    """All rows of the touched keys in the source, and perhaps some more: the columns that the KPI needs."""
    path = table_path(settings, kpi.source.full_name)
    hours = pc.unique(touched[HOUR]).to_pylist() if HOUR in touched.column_names else ()
    rows = read_days(path, kpi.columns, days, _named(kpi, touched), hours)
    return frame_of(spark, rows).coalesce(1)


def of_keys(counted: pa.Table, keys: pa.Table) -> pa.Table:
    """The rows of gold that have these keys, and no others; of a key that has none the key alone, and its
    day, `gone`.

    Keys have no nulls. The two joins would take Spark as long as the count itself.
    """
    names = keys.column_names
    keys = keys.cast(counted.select(names).schema)
    gone = keys.join(counted.select(names), names, join_type="left anti")
    if HOUR in names:
        day = pc.cast(pc.floor_temporal(gone[HOUR], unit="day"), pa.date32())
        for name in [day_of for day_of in DAYS if day_of in counted.column_names]:
            gone = gone.append_column(name, day)
    return with_gone(with_keys(counted, keys), gone)


def with_keys(rows: pa.Table, keys: pa.Table) -> pa.Table:
    """The rows that have these keys. Of columns that hold lists Arrow joins none, so these stay out of it."""
    names = keys.column_names
    mine = rows.select(names).append_column(_ROW, pa.array(range(rows.num_rows), pa.int64()))
    return rows.take(mine.join(keys.cast(rows.select(names).schema), names, join_type="left semi")[_ROW])


def with_gone(rows: pa.Table, keys: pa.Table) -> pa.Table:
    """Rows of gold, and keys of those that are `gone`, as they are replaced."""
    # Counts are never null, but of a key that is gone there are none.
    rows = rows.cast(pa.schema([field.with_nullable(True) for field in rows.schema]))
    tables = [
        table.append_column(GONE, pa.repeat(pa.scalar(is_gone), table.num_rows))
        for table, is_gone in ((rows, False), (keys, True))
    ]
    return pa.concat_tables(tables, promote_options="default")


def _named(kpi: Kpi, touched: pa.Table) -> pc.Expression | None:
    """What keeps most rows of other keys out: the hours, or the names of what goes on for long."""
    if kpi.is_long:
        name = kpi.key[-1]
        return pc.field(name).isin(pc.unique(touched[name]))
    if HOUR not in touched.column_names:
        return None
    hours = pc.unique(touched[HOUR])
    named = HOUR in kpi.columns
    hour = pc.field(HOUR) if named else pc.floor_temporal(pc.field("event_time"), unit="hour")
    return hour.isin(hours)
