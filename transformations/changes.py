"""The change feed of a gold table → what became of each key in the end."""

from collections.abc import Callable, Sequence

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

# Columns of Delta's change feed.
CHANGE, COMMIT, COMMITTED_AT = "_change_type", "_commit_version", "_commit_timestamp"
FEED = (CHANGE, COMMIT, COMMITTED_AT)
_BEFORE = "update_preimage"
_DELETED = "delete"


def latest_changes(*key: str) -> Callable[[DataFrame], DataFrame]:
    """Changes → the last one of each key. Of one commit's changes of a key, what it left counts."""

    def apply(changes: DataFrame) -> DataFrame:
        order = Window.partitionBy(*key).orderBy(F.desc(COMMIT), is_deleted())
        nth = changes.where(F.col(CHANGE) != _BEFORE).withColumn("nth", F.row_number().over(order))
        return nth.where(F.col("nth") == 1).drop("nth")

    return apply


def latest_here(changes: pa.Table, key: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """The same of changes that are on the driver: the rows that are left, and those that went."""
    last: dict[tuple[object, ...], tuple[int, bool, int]] = {}
    told = [changes[name].to_pylist() for name in (CHANGE, COMMIT, *key)]
    for number, (change, commit, *parts) in enumerate(zip(*told, strict=True)):
        if change != _BEFORE:
            found = (commit, change != _DELETED, number)
            last[tuple(parts)] = max(found, last.get(tuple(parts), found))
    rows = changes.drop_columns(list(FEED))
    kept, gone = ([n for _, here, n in sorted(last.values()) if here is wanted] for wanted in (True, False))
    return rows.take(pa.array(kept, pa.int64())), rows.take(pa.array(gone, pa.int64()))


def is_deleted() -> Column:
    """Whether a change took the row away."""
    return F.col(CHANGE) == _DELETED
