"""audit: prove from the tables alone that every bronze record has exactly one outcome.

Reads bronze, silver, ops.dead_letters, ops.filtered and ops.ledger, writes nothing. A bronze record without
a row of its own must be a duplicate of an event that silver has, or a refusal of consent; both are decided
again from its bytes.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add, and_, or_
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headwater.errors import QualityError
from headwater.ledger import high_water, rebuilding
from headwater.tables import read_table
from jobs.outcomes import WRITTEN, outcome_rows
from jobs.queries import Context
from schemas.contract import Contract, domain_contracts
from schemas.tables import PLACE, SILVER, bronze
from sources.registry import schemas_for
from transformations.classify import classify
from transformations.dedupe import identities

OUTCOMES = (*WRITTEN, "duplicate", "no_consent", "erased")
_TABLES = ("bronze", *WRITTEN)
_LEFT = ("left_no_consent", "left_duplicate", "unexplained")
_COUNTS = (
    *_TABLES,
    "refined",
    *[f"{table}_places" for table in _TABLES],
    "in_many",
    "not_in_bronze",
    *_LEFT,
    "ledger_ingested",
    *[f"ledger_{name}" for name in ("in_rows", *OUTCOMES)],
)
ByStream = dict[str, dict[str, int]]


def audit(context: Context, domain: str) -> dict[str, Any]:
    """The counts per stream. Raises QualityError that names every sum that is off."""
    contracts = [*domain_contracts(domain).values()]
    found = _count(context, domain, contracts)
    faults = [f"{stream}: {fault}" for stream, counts in found.items() for fault in _faults(counts)]
    if faults:
        raise QualityError("audit: " + "; ".join(faults))
    return found


def _count(context: Context, domain: str, contracts: Sequence[Contract]) -> ByStream:
    """All streams side by side: three passes, however many there are."""
    spark, settings = context.spark, context.settings
    topics = [F.lit(text) for c in contracts for topic in c.sources for text in (topic, c.stream)]
    stream = F.create_map(*topics)[F.col("topic")].alias("stream")
    raw = read_table(spark, settings, bronze(domain).full_name).where(stream.isNotNull())
    done = up_to(high_water(spark, settings, f"refine.{domain}"))
    sources = [topic for c in contracts for topic in c.sources]
    outcomes = outcome_rows(context, contracts).where(F.col("topic").isin(sources))
    # Kept, for each table of the lake that is read again costs a second.
    records = _records(raw.select(*PLACE, done.alias("refined")), outcomes).persist()
    try:
        nowhere = reduce(and_, [F.col(name) == 0 for name in WRITTEN], F.col("refined") > 0)
        left = raw.join(records.where(nowhere).select(*PLACE), [*PLACE])
        parts = (_by_place(records, stream), _left_over(context, contracts, left), _ledger(context, domain))
    finally:
        records.unpersist()
    nothing = dict.fromkeys(_COUNTS, 0)
    streams = [contract.stream for contract in contracts]
    return {name: reduce(or_, [part.get(name, {}) for part in parts], nothing) for name in streams}


def _records(raw: DataFrame, outcomes: DataFrame) -> DataFrame:
    """The rows that each record has in the tables, counted side by side in one pass."""
    rows = raw.withColumn("table", F.lit("bronze")).unionByName(
        outcomes.select(*PLACE, F.lit(False).alias("refined"), F.col("was").alias("table"))
    )
    counted = [F.count_if(F.col("table") == name).alias(name) for name in _TABLES]
    return rows.groupBy(*PLACE).agg(*counted, F.count_if("refined").alias("refined"))


def _by_place(records: DataFrame, stream: Column) -> ByStream:
    there = {name: F.col(name) > 0 for name in _TABLES}
    outcomes = reduce(add, [there[name].cast("int") for name in WRITTEN])
    rows = reduce(add, [F.col(name) for name in WRITTEN])
    found = records.groupBy(stream).agg(
        *[F.sum(name).alias(name) for name in (*_TABLES, "refined")],
        *[F.count_if(there[name]).alias(f"{name}_places") for name in _TABLES],
        F.count_if(outcomes > 1).alias("in_many"),
        F.sum(F.when(~there["bronze"], rows)).alias("not_in_bronze"),
    )
    return _by_stream(found)


def _by_stream(counted: DataFrame) -> ByStream:
    """`stream` → the other columns, which are counts."""
    rows = [row.asDict() for row in counted.collect()]
    return {row.pop("stream"): {name: count or 0 for name, count in row.items()} for row in rows}


def up_to(done: dict[str, int]) -> Column:
    """Whether a record is one of those up to the last offset of its topic-partition."""
    if not done:
        return F.lit(False)
    known = F.create_map(*[F.lit(part) for pair in done.items() for part in pair])
    place = F.concat_ws("-", "topic", F.col("partition").cast("string"))
    return F.col("offset") <= F.coalesce(F.try_element_at(known, place), F.lit(-1))


def _left_over(context: Context, contracts: Sequence[Contract], rows: DataFrame) -> ByStream:
    """Records without a row: duplicates whose event silver has, refusals, and what cannot be explained."""
    spark, settings = context.spark, context.settings
    silver = {c.stream: read_table(spark, settings, SILVER[c.stream].full_name) for c in contracts}
    events = reduce(DataFrame.union, [silver[c.stream].transform(identities(c)) for c in contracts])
    again = rows.transform(classify(*contracts, schema_of=schemas_for(contracts, settings.registry)))
    known = again.join(events.withColumn("known", F.lit(True)), "dedupe_hash", "left")
    outcome = (
        F.when(F.col("outcome") == "no_consent", _LEFT[0])
        .when((F.col("outcome") == "silver") & F.col("known"), _LEFT[1])
        .otherwise(_LEFT[2])
    )
    counted = [F.count_if(outcome == name).alias(name) for name in _LEFT]
    return _by_stream(known.groupBy("stream").agg(*counted))


def _ledger(context: Context, domain: str) -> ByStream:
    ledger = read_table(context.spark, context.settings, "ops.ledger")
    taken = F.when(F.col("query") == f"ingest.{domain}", F.col("in_rows"))
    refined = F.col("query").isin(f"refine.{domain}", rebuilding(domain))
    sums = [F.sum(F.when(refined, F.col(name))).alias(f"ledger_{name}") for name in ("in_rows", *OUTCOMES)]
    return _by_stream(ledger.groupBy("stream").agg(F.sum(taken).alias("ledger_ingested"), *sums))


def _faults(counts: dict[str, int]) -> list[str]:
    outcomes = sum(counts[f"ledger_{name}"] for name in OUTCOMES)
    pairs = [
        ("bronze holds a record twice", "bronze", "bronze_places"),
        ("silver holds a record twice", "silver", "silver_places"),
        ("dead_letters holds a record twice", "dead", "dead_places"),
        ("filtered holds a record twice", "filtered", "filtered_places"),
        ("bronze and the ledger of ingest differ", "bronze", "ledger_ingested"),
        ("refined records and the ledger differ", "refined", "ledger_in_rows"),
        ("silver and the ledger differ", "silver", "ledger_silver"),
        ("dead letters and the ledger differ", "dead", "ledger_dead"),
        ("filtered records and the ledger differ", "filtered", "ledger_filtered"),
        ("duplicates and the ledger differ", "left_duplicate", "ledger_duplicate"),
        ("refusals of consent and the ledger differ", "left_no_consent", "ledger_no_consent"),
    ]
    found = [f"{text} ({counts[a]} and {counts[b]})" for text, a, b in pairs if counts[a] != counts[b]]
    nothing = [
        ("records with more than one outcome", "in_many"),
        ("rows from no bronze record", "not_in_bronze"),
        ("records with no outcome", "unexplained"),
    ]
    found += [f"{counts[name]} {text}" for text, name in nothing if counts[name]]
    if outcomes != counts["ledger_in_rows"]:
        found.append(f"the ledger's outcomes do not add up ({outcomes} of {counts['ledger_in_rows']})")
    return found
