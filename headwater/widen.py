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
from pyspark.sql.types import DataType, DecimalType, DoubleType, IntegerType, LongType, StructField

from headwater import delta_log
from headwater.errors import SetupError
from headwater.locks import commit_lock
from headwater.log_trim import unread
from headwater.paths import table_path
from headwater.settings import Settings


def is_wider(new: DataType, old: DataType) -> bool:
    """Whether every value of the old type is one of the new, and exactly that: INT as BIGINT or DOUBLE,
    DECIMAL with more places before or behind the point."""
    if isinstance(new, DecimalType) and isinstance(old, DecimalType):
        more = new.scale - old.scale, (new.precision - new.scale) - (old.precision - old.scale)
        return new != old and min(more) >= 0
    return isinstance(old, IntegerType) and isinstance(new, LongType | DoubleType)


def widen(spark: SparkSession, settings: Settings, table: Any, fields: list[StructField]) -> None:
    """Give columns of `table` (a schemas.tables.Table) the types of these fields, which are wider.

    Raises SetupError where a query has still to pass a commit that changed columns: Spark would refuse to
    read on across it.
    """
    path = table_path(settings, table.full_name)
    with commit_lock(settings.lake_root, table.full_name):
        waiting = unread(settings.lake_root, delta_log.table_id(path))
        late = sorted(name for name, first in waiting.items() if _described(path, first))
        if late:
            raise SetupError(
                f"{table.full_name} gets a wider type, but its columns were changed before, and {late[0]} "
                "has not read so far: start the jobs of the version before, stop them when they have read "
                "new rows of it, and run `python -m jobs migrate` again"
            )
        rows = spark.read.format("delta").load(path)
        wider = rows.withColumns({field.name: F.col(field.name).cast(field.dataType) for field in fields})
        anew = wider.write.format("delta").mode("overwrite").option("overwriteSchema", "true")
        anew.partitionBy(*table.partitions).save(path)


def _described(path: str, first: int) -> bool:
    """Whether an entry of the log, from version `first` on, says anew what the table is."""
    entries = (file for file in Path(path, "_delta_log").glob("*.json") if file.stem.isdecimal())
    later = (file for file in entries if int(file.stem) >= first)
    return any(
        line.startswith('{"metaData"') for file in later for line in file.read_text("utf-8").splitlines()
    )
