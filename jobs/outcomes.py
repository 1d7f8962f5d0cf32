"""Where refine puts what becomes of a record: a row of silver, of ops.dead_letters or of ops.filtered.

A duplicate has none, nor has a refusal of consent.
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.tables import read_table
from jobs.queries import Context
from schemas.contract import Contract
from schemas.tables import DEAD_LETTERS, FILTERED, SILVER, Table
from transformations.columns import placed
from transformations.dead_letters import STAGES
from transformations.dedupe import identity_of

WRITTEN = ("silver", "dead", "filtered")


def tables_of(contracts: Sequence[Contract]) -> list[Table]:
    """The tables that hold the outcomes of these streams."""
    return [DEAD_LETTERS, FILTERED, *[SILVER[contract.stream] for contract in contracts]]


def outcome_rows(context: Context, contracts: Sequence[Contract]) -> DataFrame:
    """Every row of these streams: topic, partition, offset, stream, tenant_id, what it `was`, and of those in
    silver the `dedupe_hash`."""
    streams = [contract.stream for contract in contracts]
    refined = F.col("stage").isin(*STAGES)
    beside = (
        (_read(context, DEAD_LETTERS).where(refined), "dead"),
        (_read(context, FILTERED), "filtered"),
    )
    nothing = F.lit(None).cast("string").alias("dedupe_hash")
    found = [
        rows.where(F.col("stream").isin(streams)).select(
            *placed(), "stream", "tenant_id", F.lit(was).alias("was"), nothing
        )
        for rows, was in beside
    ]
    for contract in contracts:
        named = F.lit(contract.stream).alias("stream")
        identity = identity_of(contract).alias("dedupe_hash")
        rows = _read(context, SILVER[contract.stream])
        found.append(rows.select(*placed(), named, "tenant_id", F.lit("silver").alias("was"), identity))
    return reduce(DataFrame.union, found)


def _read(context: Context, table: Table) -> DataFrame:
    return read_table(context.spark, context.settings, table.full_name)
