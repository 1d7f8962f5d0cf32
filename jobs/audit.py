"""audit: prove from the tables alone that every bronze record has exactly one outcome.

Reads bronze, silver, ops.dead_letters and ops.ledger, writes nothing. A bronze record without a row of its
own must be a duplicate of an event that silver has, or a refusal of consent; both are decided again from its
bytes.
"""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.errors import QualityError
from headwater.ledger import high_water
from headwater.tables import read_table
from jobs.queries import Context
from schemas.contract import Contract, domain_contracts
from schemas.tables import SILVER, bronze
from transformations.classify import classify
from transformations.dead_letters import STAGES
from transformations.dedupe import identities

PLACE = ["topic", "partition", "offset"]
OUTCOMES = ("silver", "duplicate", "dead", "no_consent", "erased")


def audit(context: Context, domain: str) -> dict[str, Any]:
    """The counts per stream. Raises QualityError that names every sum that is off."""
    found: dict[str, Any] = {}
    faults: list[str] = []
    for contract in domain_contracts(domain).values():
        counts = _count(context, contract)
        found[contract.stream] = counts
        faults += [f"{contract.stream}: {fault}" for fault in _faults(counts)]
    if faults:
        raise QualityError("audit: " + "; ".join(faults))
    return found


def _count(context: Context, contract: Contract) -> dict[str, int]:
    spark, settings = context.spark, context.settings
    raw = read_table(spark, settings, bronze(contract.domain).full_name).where(
        F.col("topic").isin(*contract.sources)
    )
    done = _up_to(high_water(spark, settings, f"refine.{contract.domain}"))
    silver = _places(read_table(spark, settings, SILVER[contract.stream].full_name), contract)
    letters = read_table(spark, settings, "ops.dead_letters")
    dead = _places(letters.where(F.col("stage").isin(*STAGES)), contract)
    refined = raw.where(done)
    return {
        **_by_place(raw.select(*PLACE, done.alias("refined")), silver, dead),
        **_left_over(context, contract, refined.join(silver.union(dead), PLACE, "left_anti")),
        **_ledger(context, contract),
    }


def _by_place(raw: DataFrame, silver: DataFrame, dead: DataFrame) -> dict[str, int]:
    """The rows that each record has in the three tables, counted side by side in one pass."""
    rows = raw.withColumn("table", F.lit("bronze"))
    for name, places in (("silver", silver), ("dead", dead)):
        rows = rows.unionByName(
            places.select(*PLACE, F.lit(False).alias("refined"), F.lit(name).alias("table"))
        )
    tables = ("bronze", "silver", "dead")
    counted = [F.count_if(F.col("table") == name).alias(name) for name in tables]
    records = rows.groupBy(*PLACE).agg(*counted, F.count_if("refined").alias("refined"))
    there = {name: F.col(name) > 0 for name in tables}
    found = records.agg(
        *[F.sum(name).alias(name) for name in (*tables, "refined")],
        *[F.count_if(there[name]).alias(f"{name}_places") for name in tables],
        F.sum(F.when(there["dead"], F.col("silver"))).alias("in_both"),
        F.sum(F.when(~there["bronze"], F.col("silver") + F.col("dead"))).alias("not_in_bronze"),
    )
    return {name: count or 0 for name, count in found.collect()[0].asDict().items()}


def _up_to(done: dict[str, int]) -> Any:
    if not done:
        return F.lit(False)
    known = F.create_map(*[F.lit(part) for pair in done.items() for part in pair])
    place = F.concat_ws("-", "topic", F.col("partition").cast("string"))
    return F.col("offset") <= F.coalesce(F.try_element_at(known, place), F.lit(-1))


def _places(rows: DataFrame, contract: Contract) -> DataFrame:
    mine = rows.where(F.col("source_topic").isin(*contract.sources))
    return mine.select(*[F.col(f"source_{part}").alias(part) for part in PLACE])


def _left_over(context: Context, contract: Contract, rows: DataFrame) -> dict[str, int]:
    """Records without a row: duplicates whose event silver has, refusals, and what cannot be explained."""
    silver = read_table(context.spark, context.settings, SILVER[contract.stream].full_name)
    events = silver.transform(identities(contract))
    again = rows.transform(classify(contract))
    known = again.join(events.withColumn("known", F.lit(True)), "dedupe_hash", "left")
    outcome = (
        F.when(F.col("outcome") == "no_consent", "left_no_consent")
        .when((F.col("outcome") == "silver") & F.col("known"), "left_duplicate")
        .otherwise("unexplained")
    )
    counted = {row[0]: row[1] for row in known.groupBy(outcome).count().collect()}
    return {name: counted.get(name, 0) for name in ("left_no_consent", "left_duplicate", "unexplained")}


def _ledger(context: Context, contract: Contract) -> dict[str, int]:
    ledger = read_table(context.spark, context.settings, "ops.ledger").where(
        F.col("stream") == contract.stream
    )
    taken = F.when(F.col("query") == f"ingest.{contract.domain}", F.col("in_rows"))
    refined = F.col("query") == f"refine.{contract.domain}"
    sums = [F.sum(F.when(refined, F.col(name))).alias(f"ledger_{name}") for name in ("in_rows", *OUTCOMES)]
    found = ledger.agg(F.sum(taken).alias("ledger_ingested"), *sums).collect()[0].asDict()
    return {name: count or 0 for name, count in found.items()}


def _faults(counts: dict[str, int]) -> list[str]:
    outcomes = sum(counts[f"ledger_{name}"] for name in OUTCOMES)
    pairs = [
        ("bronze holds a record twice", "bronze", "bronze_places"),
        ("silver holds a record twice", "silver", "silver_places"),
        ("dead_letters holds a record twice", "dead", "dead_places"),
        ("bronze and the ledger of ingest differ", "bronze", "ledger_ingested"),
        ("refined records and the ledger differ", "refined", "ledger_in_rows"),
        ("silver and the ledger differ", "silver", "ledger_silver"),
        ("dead letters and the ledger differ", "dead", "ledger_dead"),
        ("duplicates and the ledger differ", "left_duplicate", "ledger_duplicate"),
        ("refusals of consent and the ledger differ", "left_no_consent", "ledger_no_consent"),
    ]
    found = [f"{text} ({counts[a]} and {counts[b]})" for text, a, b in pairs if counts[a] != counts[b]]
    nothing = [
        ("records in silver and dead_letters at once", "in_both"),
        ("rows from no bronze record", "not_in_bronze"),
        ("records with no outcome", "unexplained"),
    ]
    found += [f"{counts[name]} {text}" for text, name in nothing if counts[name]]
    if outcomes != counts["ledger_in_rows"]:
        found.append(f"the ledger's outcomes do not add up ({outcomes} of {counts['ledger_in_rows']})")
    return found
