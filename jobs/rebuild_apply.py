"""A rebuild's decisions are carried out: silver, ops.dead_letters, ops.filtered and ops.ledger first, while
refine waits between two of its batches; then gold is counted again.

Keyed by the record's place. Safe to run again: rows are changed and taken away by place, and come under the
rebuild's mark, once. Rows that change or go are commits that streams pass over, so gold and destinations are
told of here; rows that come are appended, and go the way of all others.
"""

from collections.abc import Mapping
from uuid import UUID

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.delta_merge import GONE, change_rows, remove_rows
from headwater.errors import QualityError
from headwater.failpoints import fail_at
from headwater.ledger import Entry, rebuilding, write_ledger
from headwater.offsets import counted_ranges, spans_of, within
from headwater.tables import append_once, ensure_table, read_table, set_property, was_appended
from headwater.version import CODE_VERSION
from jobs.build import BUILT, Build
from jobs.build_crm import KEYS as WORKED_OUT
from jobs.build_crm import SOURCES as CRM_SOURCES
from jobs.build_crm import BuildCrm
from jobs.outcomes import tables_of
from jobs.queries import Context
from jobs.rebuild_shadow import came_since, there
from jobs.refine import REBUILT
from schemas.contract import Contract
from schemas.gold import BILLING_PERIODS
from schemas.tables import DEAD_LETTERS, FILTERED, LEDGER, SILVER, SOURCE
from transformations.columns import sourced
from transformations.dead_letters import STAGES, to_dead_letters, to_filtered
from transformations.rebuilt import coming_rows, leaving_rows, new_rows, other_rows, stale

NAME = "rebuild"


def check(context: Context, contract: Contract, decided: DataFrame, ends: Mapping[str, int]) -> None:
    """Raises QualityError where the tables have moved since it was planned, when refine had come to `ends`.
    Nobody refines meanwhile."""
    silver = read_table(context.spark, context.settings, SILVER[contract.stream].full_name)
    now = there(context, contract, spans_of(counted_ranges(decided)))
    found = decided.transform(stale(contract, now, silver)).count()
    if found := found + came_since(context, contract, decided, ends):
        raise QualityError(
            f"{found} of the records, or copies of them that came since, are in silver or among the dead "
            "letters otherwise than when it was planned. Nothing was changed; plan it again"
        )


def begin(context: Context, contract: Contract, rebuild_id: UUID, decided: DataFrame) -> None:
    """Refine forgets what it has seen of the stream, and what is new to silver comes in: a copy of it that
    comes before all is done is a duplicate."""
    settings, table = context.settings, SILVER[contract.stream]
    moment = utc_now().isoformat()
    if any("silver" in move for move in counted(decided)):
        set_property(context.spark, settings, table.full_name, REBUILT, moment)
    append_once(decided.transform(new_rows(contract)), settings, table.full_name, rebuild_id.hex, 0)
    fail_at(NAME, "before_write")


def was_begun(context: Context, contract: Contract, rebuild_id: UUID) -> bool:
    """Whether its rows are in silver."""
    return was_appended(context.settings, SILVER[contract.stream].full_name, rebuild_id.hex, 0)


def change_lake(context: Context, contract: Contract, rebuild_id: UUID, decided: DataFrame) -> None:
    """What each record is now is where it belongs, and nowhere else, and the ledger says so."""
    settings, table = context.settings, SILVER[contract.stream]
    mark, moves = (rebuild_id.hex, 0), counted(decided)
    spans = spans_of(counted_ranges(decided))
    # No file need be read of which the log says that it has none of them.
    places = within(spans, *[f"kept.{name}" for name in SOURCE])
    if any(was == "silver" for was, _ in moves):
        gone = decided.where("was = 'silver' AND outcome != 'silver'").transform(leaving_rows)
        changes = decided.transform(other_rows(contract)).withColumn(GONE, F.lit(False))
        changes = changes.unionByName(gone.withColumn(GONE, F.lit(True)))
        change_rows(changes, settings, table.full_name, SOURCE, places)
    fail_at(NAME, "in_transaction")
    stages = ", ".join(f"'{stage}'" for stage in STAGES)
    letters = to_dead_letters(CODE_VERSION, {contract.stream: contract.version})
    beside = (
        ("dead", DEAD_LETTERS, letters, f"kept.stage IN ({stages}) AND kept.failed_at != made.refined_at"),
        ("filtered", FILTERED, to_filtered(CODE_VERSION), "kept.refined_at != made.refined_at"),
    )
    for outcome, kept_in, made, older in beside:
        if any(was == outcome for was, _ in moves):
            before = decided.where(F.col("was") == outcome).select(*sourced(), "refined_at")
            # What came under the mark of this rebuild stays, when it is done again.
            remove_rows(before, settings, kept_in.full_name, SOURCE, places & F.expr(older))
        if any(now == outcome for _, now in moves):
            append_once(decided.transform(made), settings, kept_in.full_name, *mark)
    ensure_table(context.spark, settings, LEDGER)
    entries = corrections(contract, decided)
    write_ledger(context.spark, settings, rebuilding(contract.domain), *mark, entries)
    context.written.update((*(one.full_name for one in tables_of([contract])), LEDGER.full_name))
    fail_at(NAME, "after_write")


def corrections(contract: Contract, decided: DataFrame) -> list[Entry]:
    """By tenant: one less of what records were, one more of what they are. Each entry adds up."""
    found: dict[str | None, Entry] = {}
    moves = decided.groupBy("was_tenant", "was", "tenant_id", "outcome").count().collect()
    for before, was, tenant, outcome, count in moves:
        for whose, name, more in ((before, was, -count), (tenant, outcome, count)):
            entry = found.setdefault(whose, Entry(contract.stream, whose))
            entry.in_rows += more
            setattr(entry, name, getattr(entry, name) + more)
    return list(found.values())


def count_again(context: Context, contract: Contract, decided: DataFrame) -> None:
    """All keys of gold that rows touch which came, went or changed; of closed months what moved is billed in
    the open one."""
    table = SILVER[contract.stream]
    rows = decided.transform(coming_rows(contract)).unionByName(decided.transform(leaving_rows))
    if table.name in BUILT:
        build = Build(context, table.name)
        for gold in (*(kpi.gold for kpi in build.kpis), BILLING_PERIODS):
            ensure_table(context.spark, context.settings, gold)
        build.count_again(rows)
    if table in CRM_SOURCES:
        for one in (*CRM_SOURCES, *WORKED_OUT):
            ensure_table(context.spark, context.settings, one)
        BuildCrm(context).count_again(rows)


def counted(decided: DataFrame) -> dict[tuple[str, str], int]:
    """How many records were what, and are what now."""
    rows = decided.groupBy("was", "outcome").count().collect()
    return {(was, outcome): count for was, outcome, count in sorted(rows)}
