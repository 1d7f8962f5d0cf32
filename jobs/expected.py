"""What the lake has of the rows that a destination must hold, read anew by every call.

Silver may hold a key twice (a duplicate that came after the window): the row with the newest row_version
counts, as in the sinks. A row that the destination refused for ever (stage sink:<system>) is not expected.
"""

from collections.abc import Collection
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.tables import frame_of, read_table
from jobs.chosen import Chosen
from jobs.queries import Context
from jobs.sides import Side, digest

KEY = "key_digest"
PLACE = ("source_topic", "source_partition", "source_offset")


def count(context: Context, system: str, side: Side) -> int:
    """Rows that the destination must have, doubles included."""
    return _deliverable(context, system, side).count()


def digests(context: Context, system: str, side: Side, chosen: Chosen) -> dict[bytes, bytes]:
    """Key → digest of the newest row. The driver holds 48 bytes a key, and what Python adds."""
    rows = _chosen(context, _deliverable(context, system, side), side, chosen)
    strict = F.md5(F.concat(*[_framed(side.text(name)) for name in side.columns]))
    made = F.unhex(strict) if side.columns else F.lit(bytes(16))
    row = F.struct(made.alias("strict"), *[F.col(name).cast("string").alias(name) for name in side.loose])
    table = _newest(rows, side, row).toArrow()
    columns = [table.column(name).to_pylist() for name in side.loose]
    keys, found = table.column(KEY).to_pylist(), table.column("strict").to_pylist()
    return {key: digest(strict, loose) for key, strict, *loose in zip(keys, found, *columns, strict=True)}


def newest_rows(context: Context, system: str, side: Side, keys: Collection[bytes]) -> DataFrame:
    """The newest row of each of these keys, whole, as a sink takes it."""
    rows = _chosen(context, _deliverable(context, system, side), side, Chosen(keys=frozenset(keys)))
    return _newest(rows, side, F.struct(*[F.col(name) for name in rows.columns if name != KEY]))


def versions(
    context: Context, system: str, side: Side, keys: Collection[bytes]
) -> dict[bytes, tuple[Any, str]]:
    """Of these keys the version of the newest row, and its place in Kafka."""
    if not keys:
        return {}
    rows = newest_rows(context, system, side, keys)
    table = rows.select(KEY, side.version().alias("version"), F.concat_ws("-", *PLACE).alias("place"))
    return {row[KEY]: (row["version"], row["place"]) for row in table.toArrow().to_pylist()}


def known(context: Context, side: Side, keys: Collection[bytes]) -> set[bytes]:
    """Which of these keys the lake has a row of, whether the destination must have it or not."""
    if not keys:
        return set()
    rows = read_table(context.spark, context.settings, side.source.full_name)
    found = _chosen(context, rows, side, Chosen(keys=frozenset(keys))).select(KEY).distinct()
    return set(found.toArrow().column(KEY).to_pylist())


def _deliverable(context: Context, system: str, side: Side) -> DataFrame:
    spark, settings = context.spark, context.settings
    letters = read_table(spark, settings, "ops.dead_letters").where(F.col("stage") == f"sink:{system}")
    refused = F.broadcast(letters.select(*PLACE))
    rows = read_table(spark, settings, side.source.full_name)
    if first := side.since(settings):
        rows = rows.where(F.col("event_time") >= F.lit(first))
    return rows.join(refused, list(PLACE), "left_anti").transform(side.expected)


def _chosen(context: Context, rows: DataFrame, side: Side, chosen: Chosen) -> DataFrame:
    """The rows of the keys that are compared, with their key's digest."""
    if chosen.below:
        rows = rows.where(side.drawn() < F.lit(chosen.below))
    rows = rows.withColumn(KEY, side.key_digest())
    if chosen.keys is None:
        return rows
    keys = frame_of(context.spark, pa.table({KEY: pa.array(sorted(chosen.keys), pa.binary())}))
    return rows.join(keys if chosen.few is None else F.broadcast(keys), KEY, "left_semi")


def _newest(rows: DataFrame, side: Side, row: Column) -> DataFrame:
    ordered = rows.select(KEY, side.newest().alias("newest"), row.alias("row"))
    return ordered.groupBy(KEY).agg(F.max_by("row", "newest").alias("row")).select(KEY, "row.*")


def _framed(text: Column) -> Column:
    """Length in bytes, colon, text; a minus for null: no two lists of values look the same."""
    return F.coalesce(F.concat(F.octet_length(text).cast("string"), F.lit(":"), text), F.lit("-"))
