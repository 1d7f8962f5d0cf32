"""What would come of a rebuild, as people read it. The decisions themselves wait in a table of their own,
rebuilds.<number>, for --apply.

bronze, silver, ops.dead_letters, ops.filtered and gold → a report; nothing else is written.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from headwater.tables import append_once, ensure_table, read_table
from headwater.version import CODE_VERSION
from jobs import gold_moves
from jobs.queries import Context
from jobs.rebuild_shadow import Span, contract_of, judged
from jobs.recount import FEW_KEYS
from jobs.replay_plan import plain, told
from schemas.contract import Contract
from schemas.gold import BILLING_USAGE
from schemas.tables import DEAD_LETTERS, SILVER, Table
from sinks.registry import SINKS
from transformations.kpi.registry import KPIS
from transformations.rebuilt import coming_rows, decisions, leaving_rows


def table_of(contract: Contract, rebuild_id: UUID) -> Table:
    """Where the decisions of a rebuild wait."""
    return decisions(contract, rebuild_id.hex)


def planned(context: Context, rebuild_id: UUID, span: Span) -> dict[str, Any]:
    """Judge the records as refine would now, and keep what is otherwise. Raises SetupError for no stream."""
    contract = contract_of(context, span.stream)
    table = table_of(contract, rebuild_id)
    ensure_table(context.spark, context.settings, table)
    rows, waiting = judged(context, span)
    try:
        counted = rows.groupBy("was", "outcome", "changed", F.coalesce("settled", F.lit(False))).count()
        counts = counted.collect()
        kept = rows.where("changed").select(*table.names)
        append_once(kept, context.settings, table.full_name, rebuild_id.hex, 0)
    finally:
        rows.unpersist()
    kept = read_table(context.spark, context.settings, table.full_name).persist()
    try:
        return _report(context, span, kept, counts, waiting)
    finally:
        kept.unpersist()


def _report(context: Context, span: Span, kept: DataFrame, counts: list[Row], waiting: int) -> dict[str, Any]:
    contract = contract_of(context, span.stream)
    changes = _changes(kept, contract)
    gold = _gold(context, contract, kept)
    report = {
        "stream": span.stream,
        "since": span.since,
        "until": span.until,
        **_records(counts),
        "waiting": waiting,
        "fails": _fails(kept),
        "silver": {SILVER[contract.stream].full_name: changes} if any(changes.values()) else {},
        "gold": gold,
        "worked_out_again": _worked_out(contract, changes),
        "billing_hours": gold.get(BILLING_USAGE.full_name, {}).get("keys", 0),
        "sinks": _sinks(contract, kept, changes, gold),
        "code_version": CODE_VERSION,
        "contract_versions": {contract.stream: contract.version},
    }
    found: dict[str, Any] = plain(report)
    return found


def _records(counts: list[Row]) -> dict[str, Any]:
    """How many were judged, and what those that changed were and are."""
    total, moves, settled = 0, Counter[str](), 0
    for was, outcome, changed, is_settled, count in counts:
        total += count
        settled += count if is_settled else 0
        if changed:
            moves[f"{was} → {outcome}"] += count
    unchanged = total - settled - moves.total()
    return {
        "records": total,
        "unchanged": unchanged,
        "settled": settled,
        "moves": dict(sorted(moves.items())),
    }


def _fails(kept: DataFrame) -> dict[str, int]:
    codes = kept.where("outcome = 'dead'").select(F.explode(F.array_distinct("reasons.code")).alias("code"))
    found = codes.groupBy("code").count().orderBy(F.desc("count"), "code")
    return {row[0]: row[1] for row in found.collect()}


def _changes(kept: DataFrame, contract: Contract) -> dict[str, int]:
    """Rows of silver by what happens to them."""
    was, now = F.col("was") == "silver", F.col("outcome") == "silver"
    kinds = {"new": now & ~was, "other": was & now, "gone": was & ~now}
    found = kept.agg(*[F.count_if(which).alias(name) for name, which in kinds.items()])
    return {name: int(count) for name, count in found.collect()[0].asDict().items()}


def _worked_out(contract: Contract, changes: Mapping[str, int]) -> list[str]:
    table = SILVER[contract.stream]
    return gold_moves.worked_out_again([table]) if any(changes.values()) else []


def _gold(context: Context, contract: Contract, kept: DataFrame) -> dict[str, Any]:
    """Key by key where few rows move; else how many keys are counted again."""
    table = SILVER[contract.stream]
    coming, leaving = kept.transform(coming_rows(contract)), kept.transform(leaving_rows)
    if coming.count() + leaving.count() <= FEW_KEYS:
        moved = gold_moves.moved(context, {table: coming.toArrow()}, {table: leaving.toArrow()})
        return {name: told(rows) for name, rows in moved.items() if rows}
    touched: dict[Table, DataFrame] = {table: coming.unionByName(leaving)}
    found: dict[str, Any] = {}
    for kpi in KPIS.values():
        if kpi.source in touched:
            keys = touched[kpi.source].transform(kpi.keyed).select(*kpi.key).distinct()
            touched[kpi.gold] = keys
            found[kpi.gold.full_name] = {"keys": keys.count(), "moved": []}
    return found


def _sinks(
    contract: Contract, kept: DataFrame, changes: Mapping[str, int], gold: Mapping[str, Any]
) -> dict[str, int]:
    """How many rows each destination gets, has taken away or put right, by <domain>.<system>."""
    letters = kept.where("outcome = 'dead'").count()
    found: Counter[str] = Counter()
    for (domain, system), destination in SINKS.items():
        for route in destination.routes:
            rows = sum(changes.values()) if route.table == SILVER[contract.stream] else 0
            rows += letters if route.table == DEAD_LETTERS and domain == contract.domain else 0
            found[f"{domain}.{system}"] += rows + gold.get(route.table.full_name, {}).get("keys", 0)
    return {name: rows for name, rows in sorted(found.items()) if rows}
