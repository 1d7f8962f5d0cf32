"""Columns of a local Delta table get a wider type: the table is written anew, in one commit.

Delta's own type widening is a feature of a table that delta-rs, which writes most commits, does not know. So
the new files hold the new type throughout, for whoever reads Delta. Streams pass over the commit, as over any
that changes rows; what they have not read yet they read from the files of before, in the wider type
(docs/adr/0046).
"""

from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DecimalType, IntegerType, LongType, StructField

from headwater import delta_log
from headwater.locks import commit_lock
from headwater.log_trim import unread
from headwater.paths import table_path
from headwater.settings import Settings


def is_wider(new: DataType, old: DataType) -> bool:
    """Whether every value of the old type is one of the new: INT as BIGINT, DECIMAL with more places before
    the point.

    Not more behind it, nor whole numbers as DOUBLE: gold would round what it counts of them.
    """
    if isinstance(new, DecimalType) and isinstance(old, DecimalType):
        return new.scale == old.scale and new.precision > old.precision
    return isinstance(old, IntegerType) and isinstance(new, LongType)


def late(settings: Settings, full_name: str) -> list[str]:
    """The queries that have still to read past a commit that says anew what the table is, as where columns
    were added: Spark refuses to read on across it once the types are others.

    Raises SetupError where a checkpoint cannot be understood.
    """
    path = table_path(settings, full_name)
    waiting = unread(settings.lake_root, delta_log.table_id(path))
    said = _last_said(path, min(waiting.values(), default=0))
    return [name for name, first in waiting.items() if first <= said]


def widen(spark: SparkSession, settings: Settings, table: Any, fields: list[StructField]) -> None:
    """Give columns of `table` (a schemas.tables.Table) the types of these fields, which are wider. No query
    may be `late`."""
    path = table_path(settings, table.full_name)
    with commit_lock(settings.lake_root, table.full_name):
        rows = spark.read.format("delta").load(path)
        wider = rows.withColumns({field.name: F.col(field.name).cast(field.dataType) for field in fields})
        anew = wider.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        anew.partitionBy(*table.partitions).save(path)


def _last_said(path: str, first: int) -> int:
    """The newest version, from `first` on, whose entry in the log says what the table is; -1: none does."""
    entries = (file for file in Path(path, "_delta_log").glob("*.json") if file.stem.isdecimal())
    later = (file for file in entries if int(file.stem) >= first)
    says = (file for file in later if '\n{"metaData"' in f"\n{file.read_text('utf-8')}")
    return max((int(file.stem) for file in says), default=-1)
