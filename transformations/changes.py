"""The change feed of a gold table → what became of each key in the end."""

from collections.abc import Callable

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


def is_deleted() -> Column:
    """Whether a change took the row away."""
    return F.col(CHANGE) == _DELETED
