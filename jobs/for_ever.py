"""Events that silver has already: they are duplicates, however long ago the first one came.

silver.<entity>, and a batch → the batch, in which an event that is asked about (all of a contract with
`uniqueForEver`, else those that were sent again) and that silver has from another record is a `duplicate`.
First arrival wins. One query writes the table, batch after batch, so what is not there now cannot be
there when the batch is appended; a batch that is done again meets its own rows, and knows them by their
place.
"""

from functools import reduce
from operator import and_

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.key_index import KeyIndex
from headwater.tables import frame_of, read_few, read_table
from jobs.queries import Context
from schemas.contract import Contract
from schemas.tables import PLACE, SILVER, SOURCE

# So many events are looked up from the driver, of a local lake.
_FEW = 20_000


def without_earlier(
    context: Context, contract: Contract, batch: DataFrame, asked: Column, count: int
) -> DataFrame:
    """The outcome rows of `batch`; the same ones, unless silver has one of the stream's events already.

    `asked` is true of the rows to look up, `count` how many those are at most: none is `written` yet.
    Of a contract with `uniqueForEver` an index says which events silver may have; only for these, and for
    those that were sent again, some columns of the whole table are read.
    """
    again = _again(context, contract, batch.where(asked), count)
    if not again.num_rows:
        return batch
    known = frame_of(context.spark, again).withColumn("known", F.lit(True))
    outcome = F.when(F.col("known"), "duplicate").otherwise(F.col("outcome"))
    return batch.join(known, "dedupe_hash", "left").withColumn("outcome", outcome).drop("known")


def _again(context: Context, contract: Contract, batch: DataFrame, count: int) -> pa.Table:
    """`dedupe_hash` of the events that silver has from other records."""
    table, names = SILVER[contract.stream], list(contract.key_columns)
    key = [F.col(f"{table.name}.{name}").alias(name) for name in names]
    mine = (F.col("outcome") == "silver") & (F.col("stream") == contract.stream) & ~F.col("written")
    new = batch.where(mine).select("dedupe_hash", "tenant_id", *key, *PLACE)
    identity = ["tenant_id", *names]
    if count > _FEW or context.settings.lake_is_remote:
        there = read_table(context.spark, context.settings, table.full_name).select(*identity, *SOURCE)
        return new.join(there, identity).where(~_same_place()).select("dedupe_hash").distinct().toArrow()
    few = new.toArrow()
    if contract.unique_for_ever:
        few = few.filter(KeyIndex(context.settings, table.full_name, identity).may_have(few))
    return in_silver(context, contract, few)


def in_silver(context: Context, contract: Contract, few: pa.Table) -> pa.Table:
    """`dedupe_hash` of those of a few events that silver has from other records: once each.

    Columns of `few`: dedupe_hash, tenant_id, the contract's key columns, topic, partition, offset.
    """
    names = list(contract.key_columns)
    identity = ["tenant_id", *names]
    if not few.num_rows:
        return few.select(["dedupe_hash"])
    wanted = (names[0], few[names[0]].to_pylist())
    table = SILVER[contract.stream].full_name
    there = read_few(context.spark, context.settings, table, [*identity, *SOURCE], wanted)
    found = few.join(there, identity, join_type="inner")
    places = zip(PLACE, SOURCE, strict=True)
    elsewhere = reduce(pc.or_, [pc.not_equal(found[ours], found[theirs]) for ours, theirs in places])
    return found.filter(elsewhere).group_by("dedupe_hash").aggregate([])


def _same_place() -> Column:
    return reduce(and_, [F.col(ours) == F.col(theirs) for ours, theirs in zip(PLACE, SOURCE, strict=True)])
