"""What became of some records: outcomes by a prefix of their keys, from the tables alone."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.tables import read_table
from jobs.outcomes import outcome_rows
from jobs.queries import Context
from schemas.contract import Contract
from schemas.tables import PLACE, SILVER, bronze
from transformations.columns import placed


def trace(
    context: Context, contracts: Sequence[Contract], prefixes: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """Outcomes of the records whose Kafka key is <tenant>|<key> with a key that begins with a prefix."""
    fates = _fates(context, contracts, prefixes).persist()
    found: dict[str, dict[str, Any]] = {prefix: {"bronze": 0, "reasons": {}} for prefix in prefixes}
    for row in fates.groupBy("prefix", "fate", "code").count().collect():
        counts = found[row["prefix"]]
        counts["bronze"] += row["count"]
        counts[row["fate"]] = counts.get(row["fate"], 0) + row["count"]
        if row["code"]:
            counts["reasons"][row["code"]] = row["count"]
    fates.unpersist()
    return found


def _fates(context: Context, contracts: Sequence[Contract], prefixes: tuple[str, ...]) -> DataFrame:
    """(prefix, fate, code): fate by where the record's row is; without one, by its consent and its key."""
    spark, settings = context.spark, context.settings
    own = F.get(F.split(F.col("key").cast("string"), r"\|", 2), F.lit(1))
    prefix = F.coalesce(*[F.when(own.startswith(p), F.lit(p)) for p in prefixes])
    raw = read_table(spark, settings, bronze(contracts[0].domain).full_name).where(
        F.col("topic").isin([contract.topic for contract in contracts])
    )
    refused = F.coalesce(*[_refused(contract) for contract in contracts])
    mine = raw.select(*PLACE, own.alias("own"), prefix.alias("prefix"), refused.alias("refused"))
    silver = reduce(
        DataFrame.unionByName,
        [
            read_table(spark, settings, SILVER[contract.stream].full_name).select(*placed(), _own(contract))
            for contract in contracts
        ],
    )
    kept = silver.select(*PLACE, F.lit(True).alias("kept"))
    keys = silver.select("topic", "own", F.lit(True).alias("known")).distinct()
    letters = read_table(spark, settings, "ops.dead_letters").where(F.col("stage").isin("decode", "validate"))
    dead = letters.select(*placed(), F.element_at("reasons", 1)["code"].alias("code"))
    left_out = outcome_rows(context, contracts).where("was = 'filtered'").select(*PLACE, "was")
    fate = (
        F.when(F.col("kept"), "silver")
        .when(F.col("code").isNotNull(), "dead")
        .when(F.col("was").isNotNull(), "filtered")
        .when(F.col("refused"), "no_consent")
        .when(F.col("known"), "duplicate")
        .otherwise("unexplained")
    )
    found = mine.where(F.col("prefix").isNotNull())
    for rows in (kept, dead, left_out):
        found = found.join(rows, [*PLACE], "left")
    return found.join(keys, ["topic", "own"], "left").select("prefix", fate.alias("fate"), "code")


def _own(contract: Contract) -> Column:
    """The event's key as its record's key has it, behind the tenant."""
    parts = [F.col(name).cast("string") for name in contract.key_columns]
    return F.concat_ws("|", *parts).alias("own")


def _refused(contract: Contract) -> Column:
    """Whether a record of the contract's topic refuses consent; null for those of others."""
    if contract.consent_field is None:
        return F.lit(None).cast("boolean")
    path = "$" + contract.consent_field.replace("/", ".")
    said = F.get_json_object(F.col("value").cast("string"), path) == "false"
    return F.when(F.col("topic") == contract.topic, said)
