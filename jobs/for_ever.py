"""Events that silver has for ever once: those that come again after the dedupe's window are duplicates, too.

silver.<entity> of a contract with `uniqueForEver`, and a batch → the batch, in which an event that silver
has from another record has the outcome `duplicate`. First arrival wins. One query writes the table, batch
after batch, so what is not there now cannot be there when the batch is appended; a batch that is done again
meets its own rows, and knows them by their place.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.tables import read_table
from jobs.queries import Context
from schemas.contract import Contract
from schemas.tables import SILVER

_PLACE = ("topic", "partition", "offset")


def without_earlier(context: Context, contract: Contract, batch: DataFrame) -> DataFrame:
    """The outcome rows of `batch`; the same ones, unless silver has one of the stream's events already.

    Reads two columns of all the table: so a batch costs more the more silver holds, whatever its own size.
    """
    table = SILVER[contract.stream]
    key = [F.col(f"{table.name}.{_name(pointer)}").alias(_name(pointer)) for pointer in contract.dedupe_key]
    mine = (F.col("outcome") == "silver") & (F.col("stream") == contract.stream)
    new = batch.where(mine).select("dedupe_hash", "tenant_id", *key, *_PLACE)
    silver = read_table(context.spark, context.settings, table.full_name)
    identity = ["tenant_id", *map(_name, contract.dedupe_key)]
    there = silver.select(*identity, *[f"source_{part}" for part in _PLACE])
    again = new.join(there, identity).where(~_same_place()).select("dedupe_hash").distinct().toArrow()
    if not again.num_rows:
        return batch
    known = context.spark.createDataFrame(again).withColumn("known", F.lit(True))
    outcome = F.when(F.col("known"), "duplicate").otherwise(F.col("outcome"))
    return batch.join(known, "dedupe_hash", "left").withColumn("outcome", outcome).drop("known")


def _name(pointer: str) -> str:
    return pointer.rsplit("/", 1)[-1]


def _same_place() -> Column:
    topic, partition, offset = (F.col(part) == F.col(f"source_{part}") for part in _PLACE)
    return topic & partition & offset
