"""reconcile --repair: what differs in a destination is put right by the sink that delivers to it.

Reads silver and gold, writes PostgreSQL, Elasticsearch and Redis by key, and may end anywhere and be run
again: a row that was put right is not touched twice, one that was not is found by the next comparison.
Deliveries may run meanwhile. What the lake does not have is taken away only as it was seen, after the lake
was read once more; what is there with other content gives way only as it was seen; all else is set if newer.
A row that comes between is found when the keys are compared again, and put right in the next round.
"""

from functools import partial
from typing import Any, cast

from headwater.failpoints import fail_at
from headwater.locks import instance_lock
from headwater.log import logger
from headwater.retry import retrying
from headwater.tables import append_rows, ensure_table
from jobs.chosen import Chosen
from jobs.compare import KINDS, Compared, compare
from jobs.expected import known, newest_rows
from jobs.queries import Context
from jobs.rejects import rejected_letters
from jobs.runs import record_decision, who
from jobs.sides import Side
from schemas.tables import DEAD_LETTERS
from sinks.base import MendingSink, Written
from sinks.registry import SINKS

_ROUNDS = 3
_PATIENCE_S = 60.0
_log = logger(__name__)


def repair(
    context: Context, domain: str, system: str, side: Side, found: Compared, show: int
) -> tuple[dict[str, Any], Compared]:
    """What was put right, by kind, and what is left when these keys are compared again.

    Raises LockedError when another repairs this domain.
    """
    sink = _sink(context, domain, system, side)
    with instance_lock(context.settings.lake_root, f"repair.{domain}"):
        sink.setup()
        counts = ", ".join(f"{number} {kind}" for kind, number in found.counts.items())
        record_decision(context, f"repair.{domain}.{system}", f"{who()} repairs {side.name}: {counts}")
        left, refused = found, 0
        for _ in range(_ROUNDS):
            refused += _round(context, domain, system, side, sink, left)
            left = compare(context, system, side, Chosen(keys=found.keys), show)
            if not left.keys:
                break
    mended = {kind: len(set(found.of(kind)) - left.keys) for kind in KINDS}
    _log.info("repaired", system=side.name, **mended, refused=refused, left=len(left.keys))
    return mended | ({"refused": refused} if refused else {}), left


def _sink(context: Context, domain: str, system: str, side: Side) -> MendingSink:
    (route,) = [route for route in SINKS[domain, system].routes if route.table == side.source]
    return cast(MendingSink, route.make(context.settings, f"repair.{domain}.{system}"))


def _round(context: Context, domain: str, system: str, side: Side, sink: MendingSink, found: Compared) -> int:
    """Take away, then write; how many rows the destination refused for ever."""
    query = f"repair.{domain}.{system}"
    fail_at(query, "before_write")
    here = known(context, side, found.extra)
    extra = [seen for key, seen in found.extra.items() if key not in here]
    if extra:
        gone = retrying(partial(sink.withdraw, extra), query, _PATIENCE_S)
        context.totals.add(rows_out=gone)
    fail_at(query, "after_write")
    # Of what the lake has no more there is nothing to write: it is extra when it is compared again.
    wrong = [seen for seen in found.different.values() if seen.due is not None]
    keys = [*found.missing, *found.older, *(seen.key for seen in wrong), *here]
    written = _written(context, system, side, sink, keys, wrong) if keys else Written(0, 0, 0)
    context.totals.add(rows_in=written.rows, rows_out=written.inserted + written.updated)
    fail_at(query, "before_commit")
    return _keep_refused(context, domain, system, written)


def _written(
    context: Context, system: str, side: Side, sink: MendingSink, keys: list[bytes], wrong: list[Any]
) -> Written:
    rows = newest_rows(context, system, side, keys).persist()
    try:
        return retrying(lambda: sink.mend(rows, wrong), side.name, _PATIENCE_S)
    finally:
        rows.unpersist()


def _keep_refused(context: Context, domain: str, system: str, written: Written) -> int:
    """As deliver does: a refused row becomes a dead letter, and is not expected there any more."""
    if not written.rejected:
        return 0
    spark, settings = context.spark, context.settings
    letters = rejected_letters(context, domain, system, written.rejected).toArrow()
    ensure_table(spark, settings, DEAD_LETTERS)
    append_rows(spark, letters, settings, DEAD_LETTERS.full_name)
    context.written.update((DEAD_LETTERS.full_name,))
    context.totals.add(dead=len(written.rejected))
    return len(written.rejected)
