"""reconcile: compare every destination with the lake, by key and by a hash of all delivered columns.

Reads silver and gold, bronze, ops.dead_letters and the destinations, writes nothing. Silver may hold a key
twice (a duplicate that came after the window): the row with the newest row_version counts, as in the sinks. A
row that a destination refused for ever (stage sink:<system>) is not expected there. The driver holds 32 bytes
a key.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from headwater.errors import QualityError, SetupError
from headwater.log import logger
from headwater.tables import read_table
from jobs.audit import audit
from jobs.queries import Context
from jobs.sides import Found, Side, digest, events_side, postgres_side
from jobs.sides_elasticsearch import LEADS_SIDE
from jobs.sides_redis import redis_side
from jobs.trace import trace as traced
from schemas.contract import domain_contracts
from schemas.gold import BILLING_USAGE, SESSION_KPIS
from schemas.tables import (
    AGENT_SESSIONS,
    AGENT_TURNS,
    CRM_CONTACTS,
    CRM_LEADS,
    CRM_OPPORTUNITIES,
    FRONTEND_INTERACTIONS,
    LEADS,
)
from sinks import postgres_tables
from sinks.redis import METRICS, STATE

_log = logger(__name__)
_DIFFERENCES = ("missing", "extra", "different")
SIDES: dict[tuple[str, str], tuple[Side, ...]] = {
    ("leads", "postgres"): (postgres_side("postgres", LEADS, postgres_tables.LEADS),),
    ("leads", "elasticsearch"): (LEADS_SIDE,),
    ("interactions", "postgres"): (
        postgres_side("postgres.agent_turns", AGENT_TURNS, postgres_tables.AGENT_TURNS),
        postgres_side(
            "postgres.frontend_analytics", FRONTEND_INTERACTIONS, postgres_tables.FRONTEND_ANALYTICS
        ),
        postgres_side("postgres.session_kpis", SESSION_KPIS, postgres_tables.SESSION_KPIS),
        postgres_side("postgres.billing_usage", BILLING_USAGE, postgres_tables.BILLING_USAGE),
    ),
    ("crm", "postgres"): tuple(
        events_side(f"postgres.{table.name}", source, table)
        for source, table in (
            (CRM_LEADS, postgres_tables.CRM_LEADS),
            (CRM_CONTACTS, postgres_tables.CRM_CONTACTS),
            (CRM_OPPORTUNITIES, postgres_tables.CRM_OPPORTUNITIES),
        )
    ),
    ("interactions", "redis"): (redis_side(AGENT_SESSIONS, STATE), redis_side(SESSION_KPIS, METRICS)),
}


def reconcile(
    context: Context, domain: str, trace: tuple[str, ...] = (), also_audit: bool = False
) -> dict[str, Any]:
    """Counts per destination, and per prefix of `trace`. Raises QualityError naming every difference."""
    sides = {system: sides for (found, system), sides in SIDES.items() if found == domain}
    if not sides and not also_audit:
        raise SetupError(f"domain {domain!r} has no destination that can be compared; see jobs audit")
    faults: list[str] = []
    result: dict[str, Any] = {"reconcile": {}}
    with ThreadPoolExecutor(1) as pool:
        # Spark audits while the driver reads the destinations.
        audited = pool.submit(audit, context, domain) if also_audit else None
        if trace:
            result["trace"] = traced(context, [*domain_contracts(domain).values()], trace)
            _log.info("traced", domain=domain, prefixes=result["trace"])
        for system, side in [(system, side) for system, some in sorted(sides.items()) for side in some]:
            counts = _compare(_expected(context, system, side), side.rows(context.settings))
            _log.info("reconciled", system=side.name, **counts)
            result["reconcile"][side.name] = counts
            faults += [f"{side.name}: {counts[name]} rows {name}" for name in _DIFFERENCES if counts[name]]
    if audited:
        try:
            result["audit"] = audited.result()
        except QualityError as fault:
            faults.append(str(fault))
    if faults:
        raise QualityError("reconcile: " + "; ".join(faults))
    return result


def _compare(expected: dict[bytes, bytes], found: Iterator[Found]) -> dict[str, int]:
    counts = {"silver": len(expected), "found": 0, "missing": 0, "extra": 0, "different": 0}
    for key, strict, loose in found:
        counts["found"] += 1
        wanted = expected.pop(key, None)
        if wanted is None:
            counts["extra"] += 1
        elif wanted != digest(strict, loose):
            counts["different"] += 1
    return counts | {"missing": len(expected)}


def _expected(context: Context, system: str, side: Side) -> dict[bytes, bytes]:
    """Key → digest of the lake's newest row per key, without the rows that the destination refused."""
    spark, settings = context.spark, context.settings
    letters = read_table(spark, settings, "ops.dead_letters").where(F.col("stage") == f"sink:{system}")
    refused = letters.select("source_topic", "source_partition", "source_offset")
    rows = read_table(spark, settings, side.source.full_name).transform(side.expected)
    if first := side.since(settings):
        rows = rows.where(F.col("event_time") >= F.lit(first))
    kept = rows.join(F.broadcast(refused), refused.columns, "left_anti")
    strict = F.md5(F.concat(*[_framed(side.text(name)) for name in side.columns]))
    made = F.unhex(strict) if side.columns else F.lit(bytes(16))
    row = F.struct(made.alias("strict"), *[F.col(name).cast("string").alias(name) for name in side.loose])
    ordered = kept.select(side.key_digest().alias("key"), side.newest().alias("newest"), row.alias("row"))
    newest = ordered.groupBy("key").agg(F.max_by("row", "newest").alias("row"))
    table = newest.select("key", "row.*").toArrow()
    columns = [table.column(name).to_pylist() for name in side.loose]
    keys, digests = table.column("key").to_pylist(), table.column("strict").to_pylist()
    return {key: digest(found, loose) for key, found, *loose in zip(keys, digests, *columns, strict=True)}


def _framed(text: Column) -> Column:
    """Length in bytes, colon, text; a minus for null: no two lists of values look the same."""
    return F.coalesce(F.concat(F.octet_length(text).cast("string"), F.lit(":"), text), F.lit("-"))
