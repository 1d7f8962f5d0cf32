"""bronze.<domain> → what becomes of the records of one stream and span today, held against the tables.

Refine's own code over bronze. Reads bronze, silver, ops.dead_letters and ops.filtered; writes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.errors import SetupError
from headwater.ledger import high_water
from headwater.log import logger
from headwater.offsets import Span as Offsets
from headwater.offsets import counted_ranges, spans_of, within
from headwater.tables import ensure_table, frame_of, read_table
from jobs.audit import up_to
from jobs.outcomes import outcome_rows, tables_of
from jobs.queries import Context
from schemas.contract import Contract, contracts, domain_contracts
from schemas.overlay import overlaid
from schemas.tables import DEAD_LETTERS, FILTERED, PLACE, SILVER, SOURCE, bronze
from sources.registry import schemas_for
from transformations.classify import classify
from transformations.rebuilt import decided, kept, lost

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
    """The decisions, with `changed` and `settled`, persisted; how many records refine has not come to yet.

    Of events that would leave silver all that came elsewhen are judged, too: one of them takes the place.
    """
    contract = contract_of(context, span.stream)
    for table in (bronze(contract.domain), *tables_of([contract])):
        ensure_table(context.spark, context.settings, table)
    refined = up_to(high_water(context.spark, context.settings, f"refine.{contract.domain}"))
    records = _records(context, contract)
    came = (F.col("ingested_at") >= F.lit(span.since)) & (F.col("ingested_at") < F.lit(span.until))
    days = F.col("ingest_date").between(F.lit(span.since.date()), F.lit(span.until.date()))
    mine = records.where(came & days)
    waiting = mine.where(~refined).count()
    _log.info("judging", stream=span.stream, records=mine.count() - waiting, waiting=waiting)
    rows = _decided(context, contract, mine.where(refined)).persist()
    gone = rows.transform(lost(contract)).toArrow()
    if gone.num_rows:
        rows.unpersist()
        others = records.where(refined & ~(came & days))
        copies = _copies(context, contract, others, gone).select(*PLACE)
        both = mine.where(refined).unionByName(records.join(F.broadcast(copies), list(PLACE), "left_semi"))
        rows = _decided(context, contract, both).persist()
    return rows, waiting


def came_since(context: Context, contract: Contract, decided: DataFrame, ends: Mapping[str, int]) -> int:
    """How many records behind these offsets, by topic-partition, are copies of events that leave silver."""
    gone = decided.transform(lost(contract)).toArrow()
    if not gone.num_rows:
        return 0
    refined = up_to(high_water(context.spark, context.settings, f"refine.{contract.domain}"))
    later = _records(context, contract).where(refined & ~up_to(dict(ends)))
    return _copies(context, contract, later, gone).count()


def there(context: Context, contract: Contract, spans: Iterable[Offsets]) -> DataFrame:
    """What the tables have of these records (`kept`)."""
    spark, settings = context.spark, context.settings
    mine = within(spans, *SOURCE)
    silver = read_table(spark, settings, SILVER[contract.stream].full_name).where(mine)
    letters, filtered = (
        read_table(spark, settings, table.full_name).where(mine & (F.col("stream") == contract.stream))
        for table in (DEAD_LETTERS, FILTERED)
    )
    return kept(contract, silver, letters, filtered)


def _decided(context: Context, contract: Contract, records: DataFrame) -> DataFrame:
    known = there(context, contract, spans_of(counted_ranges(records)))
    silver = read_table(context.spark, context.settings, SILVER[contract.stream].full_name)
    return _classified(context, contract, records).transform(decided(contract, known, silver))


def _copies(context: Context, contract: Contract, records: DataFrame, events: pa.Table) -> DataFrame:
    """Those of the records that pass, are in no table, and are one of these events."""
    done = outcome_rows(context, [contract]).select(*PLACE)
    rows = _classified(context, contract, records.join(done, list(PLACE), "left_anti"))
    wanted = F.broadcast(frame_of(context.spark, events))
    return rows.where("outcome = 'silver'").join(wanted, "dedupe_hash", "left_semi")


def _classified(context: Context, contract: Contract, records: DataFrame) -> DataFrame:
    """By refine's own code, now."""
    settings = context.settings
    geo = settings.enrichment.geo_database
    schemas = schemas_for([contract], settings.registry)
    decide = classify(contract, geo_database=str(geo) if geo else None, schema_of=schemas)
    return records.withColumn("refined_at", F.lit(utc_now())).transform(decide)


def _records(context: Context, contract: Contract) -> DataFrame:
    rows = read_table(context.spark, context.settings, bronze(contract.domain).full_name)
    return rows.where(F.col("topic").isin([*contract.sources]))
