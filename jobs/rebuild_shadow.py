"""bronze.<domain> → what becomes of the records of one stream and span today, held against the tables.

Refine's own code over bronze. Reads bronze, silver, ops.dead_letters and ops.filtered; writes nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.errors import SetupError
from headwater.ledger import high_water
from headwater.log import logger
from headwater.offsets import counted_ranges, span_of, within
from headwater.tables import ensure_table, read_table
from jobs.audit import up_to
from jobs.outcomes import tables_of
from jobs.queries import Context
from schemas.contract import Contract, contracts, domain_contracts
from schemas.overlay import overlaid
from schemas.tables import DEAD_LETTERS, FILTERED, SILVER, SOURCE, bronze
from sources.registry import schemas_for
from transformations.classify import classify
from transformations.rebuilt import decided, kept

_log = logger(__name__)


@dataclass(frozen=True)
class Span:
    """Records of a stream by the time at which they came into bronze: from `since` until before `until`."""

    stream: str
    since: datetime
    until: datetime


def contract_of(context: Context, stream: str) -> Contract:
    """As refine has it: with the rules and filters of single tenants. Raises SetupError for no stream."""
    known = contracts().get(stream)
    if known is None:
        raise SetupError(f"there is no stream {stream!r}; known: {', '.join(sorted(contracts()))}")
    found = overlaid(domain_contracts(known.domain), context.settings.streams.overlays)
    return next(contract for contract in found.values() if contract.stream == stream)


def judged(context: Context, span: Span) -> tuple[DataFrame, int]:
    """The decisions, with `changed` and `settled`, and how many records refine has not come to yet."""
    spark, settings = context.spark, context.settings
    contract = contract_of(context, span.stream)
    for table in (bronze(contract.domain), *tables_of([contract])):
        ensure_table(spark, settings, table)
    records = _records(context, contract, span)
    refined = up_to(high_water(spark, settings, f"refine.{contract.domain}"))
    waiting = records.where(~refined).count()
    records = records.where(refined).withColumn("refined_at", F.lit(utc_now()))
    ranges = counted_ranges(records)
    _log.info(
        "judging", stream=span.stream, records=sum(one.count for one in ranges.values()), waiting=waiting
    )
    spans = [span_of(place, counted.first, counted.last) for place, counted in ranges.items()]
    there = within(spans, *SOURCE)
    silver = read_table(spark, settings, SILVER[contract.stream].full_name)
    beside = [
        read_table(spark, settings, table.full_name).where(there & (F.col("stream") == contract.stream))
        for table in (DEAD_LETTERS, FILTERED)
    ]
    geo = settings.enrichment.geo_database
    schemas = schemas_for([contract], settings.registry)
    decide = classify(contract, geo_database=str(geo) if geo else None, schema_of=schemas)
    known = kept(contract, silver.where(there), *beside)
    return records.transform(decide).transform(decided(contract, known, silver)), waiting


def _records(context: Context, contract: Contract, span: Span) -> DataFrame:
    rows = read_table(context.spark, context.settings, bronze(contract.domain).full_name)
    days = F.col("ingest_date").between(F.lit(span.since.date()), F.lit(span.until.date()))
    came = (F.col("ingested_at") >= F.lit(span.since)) & (F.col("ingested_at") < F.lit(span.until))
    return rows.where(F.col("topic").isin([*contract.sources]) & days & came)
