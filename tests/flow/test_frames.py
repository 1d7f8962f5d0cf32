"""Rows that are on the driver reach Spark."""

import pyarrow as pa
from pyspark.sql import SparkSession

from headwater.tables import frame_of


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": pa.array(values, pa.int64())})


def test_rows_in_many_pieces_of_which_some_are_empty_reach_spark_whole(spark: SparkSession) -> None:
    pieces = [numbers(1, 2), numbers(), numbers(3), numbers(), numbers(), numbers(4, 5, 6), numbers()]
    rows = pa.concat_tables(pieces)
    assert [len(piece) for piece in rows["n"].chunks] == [2, 0, 1, 0, 0, 3, 0]
    assert sorted(row["n"] for row in frame_of(spark, rows).collect()) == [1, 2, 3, 4, 5, 6]
    assert frame_of(spark, rows.slice(0, 0)).collect() == []
