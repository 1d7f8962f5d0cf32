"""Destinations of silver after a rebuild: rows that changed or went are compared by key and put right, as
`reconcile --repair` does it; topics get changed rows once more.

Rows that silver did not have before come by the deliveries, as all new ones; gold's by its change feed. Safe
to run again: what was put right does not differ any more, and topics are at least once.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pyspark.sql import DataFrame

from headwater.delta_log import table_id
from headwater.errors import HeadwaterError, TransientError
from headwater.log import logger
from headwater.log_trim import behind
from headwater.retry import retrying
from headwater.tables import table_path
from jobs.chosen import Chosen
from jobs.compare import compare
from jobs.events_log import DOMAINS as LOGGED
from jobs.events_log import SYSTEM as LOG
from jobs.events_log import EventsLog
from jobs.expected import KEY
from jobs.faults import translate
from jobs.queries import Context
from jobs.reconcile import SIDES
from jobs.repair import repair
from jobs.sides import Side
from schemas.contract import Contract
from schemas.tables import SILVER, Table
from sinks.registry import SINKS
from transformations.rebuilt import leaving_rows, other_rows

_SHOWN = 3
_PATIENCE_S = 60.0
_LOOK_S = 1.0
_log = logger(__name__)


def put_right(context: Context, contract: Contract, decided: DataFrame, last: int) -> dict[str, Any]:
    """What was put right in each destination, by kind. Raises TransientError where one is away, after all
    others were done, or where not all deliveries have come to `last`, the version of silver before it was
    changed. What is left of one is told."""
    others = decided.transform(other_rows(contract))
    rows = others.unionByName(decided.transform(leaving_rows)).persist()
    found: dict[str, Any] = {}
    faults = []
    try:
        if not rows.isEmpty():
            _wait(context, contract, last)
        for name, work in _works(context, contract, decided, others, rows):
            try:
                if done := retrying(work, name, _PATIENCE_S):
                    found[name] = done
            except Exception as foreign:  # the others are not to wait for this one's fault
                fault = translate(foreign) or HeadwaterError(type(foreign).__name__)
                _log.error("not_put_right", destination=name, why=str(fault), exc_info=foreign)
                faults.append(f"{name}: {fault}")
    finally:
        rows.unpersist()
    if faults:
        raise TransientError(f"{'; '.join(faults)}. The lake is rebuilt; --apply again puts the rest right")
    return found


def _works(
    context: Context, contract: Contract, decided: DataFrame, others: DataFrame, rows: DataFrame
) -> Iterator[tuple[str, Callable[[], dict[str, int]]]]:
    """What is to be done in each destination, by its name; in none whose delivery never ran."""
    table = SILVER[contract.stream]
    for to in fed_by(contract):
        if not context.has_checkpoint(f"deliver.{'.'.join(to)}"):
            continue
        for side in SIDES.get(to, ()):
            if side.source == table:
                yield side.name, partial(_mended, context, to, side, rows)
        if to not in SIDES:
            yield ".".join(to), partial(_sent, context, to, table, others)
    if contract.domain in LOGGED and context.has_checkpoint(f"deliver.{contract.domain}.{LOG}"):
        log = EventsLog(context, contract.domain)
        yield f"{contract.domain}.{LOG}", lambda: {"told": log.tell_anew(decided)}


def fed_by(contract: Contract) -> list[tuple[str, str]]:
    """The destinations that get rows of the stream's table."""
    table = SILVER[contract.stream]
    return [key for key, one in SINKS.items() if any(route.table == table for route in one.routes)]


def _wait(context: Context, contract: Contract, last: int) -> None:
    """Until every delivery has passed what came into silver before it was changed: one that has not would
    bring the rows of before, which their files still have."""
    settings = context.settings
    path = table_path(settings, SILVER[contract.stream].full_name)
    named = [f"deliver.{domain}.{system}" for domain, system in fed_by(contract)]
    until = time.monotonic() + _PATIENCE_S
    while late := behind(settings.lake_root, table_id(path), last, named):
        if time.monotonic() > until:
            raise TransientError(
                f"{', '.join(late)}: not all of silver is delivered yet. The lake is rebuilt; let them run, "
                "then --apply again puts the destinations right"
            )
        _log.info("waiting_for_deliveries", queries=late)
        time.sleep(_LOOK_S)


def _mended(context: Context, to: tuple[str, str], side: Side, rows: DataFrame) -> dict[str, int]:
    """By kind; `left`: what a destination refuses, or somebody has changed meanwhile."""
    keys = rows.select(side.key_digest().alias(KEY)).distinct().toArrow()[KEY].to_pylist()
    differs = compare(context, to[1], side, Chosen(keys=frozenset(keys)), _SHOWN) if keys else None
    if not differs or not differs.keys:
        return {}
    mended, left = repair(context, *to, side, differs, _SHOWN)
    return mended | ({"left": len(left.keys)} if left.keys else {})


def _sent(context: Context, to: tuple[str, str], table: Table, others: DataFrame) -> dict[str, int]:
    """To a topic."""
    if others.isEmpty():
        return {}
    (route,) = [route for route in SINKS[to].routes if route.table == table]
    sink = route.make(context.settings, f"rebuild.{to[0]}.{to[1]}")
    sink.setup()
    return {"sent": sink.write(others).rows}
