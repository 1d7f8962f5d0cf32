"""A table at one version, for a report: all of it, or of a large one what is newest, or a sample."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.errors import SetupError
from headwater.tables import read_table_at, table_version
from jobs.queries import Context
from schemas.expectations import Expectation
from schemas.tables import Table

ALL, PARTITIONS, SAMPLE = "all", "partitions", "sample"


@dataclass(frozen=True)
class Taken:
    """What is looked at. `how` is one of all, partitions and sample."""

    frame: DataFrame
    version: int
    rows: int
    rows_taken: int
    how: str


@contextmanager
def taken(context: Context, table: Table, rules: tuple[Expectation, ...]) -> Iterator[Taken]:
    """The newest version, kept at hand while it is looked at; a rule is a column that says whether it holds.

    More than quality.max_rows: the newest partitions that fit, else a sample, the same one of the same
    version.
    """
    spark, settings, most = context.spark, context.settings, context.settings.quality.max_rows
    version = table_version(spark, settings, table.full_name)
    frame = read_table_at(spark, settings, table.full_name, version)
    rows = frame.count()
    how, some = (ALL, frame) if rows <= most else _some(frame, table, version, rows, most)
    held = reduce(with_rule, rules, some).persist()
    try:
        yield Taken(held, version, rows, held.count(), how)
    finally:
        held.unpersist()


def with_rule(frame: DataFrame, rule: Expectation) -> DataFrame:
    """The frame with a column that says of each row whether the rule holds. Raises SetupError for one that
    Spark cannot read."""
    try:
        return frame.withColumn(rule.column, F.coalesce(F.expr(rule.holds or ""), F.lit(False)))
    except AnalysisException as fault:
        name = rule.column.removeprefix("rule_")
        raise SetupError(f"rule {name}: {rule.holds} is nothing that a row is held against") from fault


def _some(frame: DataFrame, table: Table, version: int, rows: int, most: int) -> tuple[str, DataFrame]:
    if table.partitions and (newest := _newest(frame, table.partitions[0], most)):
        return PARTITIONS, frame.where(F.col(table.partitions[0]).isin(newest))
    # Of the table's own making: the report of a version can be made again.
    seed = zlib.crc32(f"{table.full_name}@{version}".encode())
    return SAMPLE, frame.sample(fraction=most / rows, seed=seed)


def _newest(frame: DataFrame, column: str, most: int) -> list[object]:
    """The newest values of the partition column that have no more rows than `most` together."""
    counted = frame.where(F.col(column).isNotNull()).groupBy(column).count()
    values: list[object] = []
    for value, count in counted.orderBy(F.desc(column)).toLocalIterator():
        most -= count
        if most < 0:
            break
        values.append(value)
    return values
