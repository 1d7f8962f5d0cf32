"""Destinations of silver after a rebuild: rows that changed or went are compared by key and put right, as
`reconcile --repair` does it; topics get changed rows once more.

Rows that silver did not have before come by the deliveries, as all new ones; gold's by its change feed. Safe
to run again: what was put right does not differ any more, and topics are at least once.
"""

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame

from headwater.errors import TransientError
from jobs.chosen import Chosen
from jobs.compare import compare
from jobs.events_log import DOMAINS as LOGGED
from jobs.events_log import SYSTEM as LOG
from jobs.events_log import EventsLog
from jobs.expected import KEY
from jobs.queries import Context
from jobs.reconcile import SIDES
from jobs.repair import repair
from jobs.sides import Side
from schemas.contract import Contract
from schemas.tables import SILVER
from sinks.registry import SINKS
from transformations.rebuilt import leaving_rows, other_rows

_SHOWN = 3


def put_right(context: Context, contract: Contract, decided: DataFrame) -> dict[str, Any]:
    """What was put right in each destination, by kind. Raises TransientError where something is left, or a
    destination is away."""
    table = SILVER[contract.stream]
    others = decided.transform(other_rows(contract))
    rows = others.unionByName(decided.transform(leaving_rows))
    found: dict[str, Any] = {}
    for domain, system, side in _sides(contract):
        keys = rows.select(side.key_digest().alias(KEY)).distinct().toArrow()[KEY].to_pylist()
        differs = compare(context, system, side, Chosen(keys=frozenset(keys)), _SHOWN) if keys else None
        if differs and differs.keys:
            found[side.name], left = repair(context, domain, system, side, differs, _SHOWN)
            if left.keys:
                raise TransientError(f"{side.name}: {len(left.keys)} rows are not as they must be; try again")
    if not others.isEmpty():
        for domain, system in _topics(contract):
            for route in SINKS[domain, system].routes:
                if route.table == table:
                    sink = route.make(context.settings, f"rebuild.{domain}.{system}")
                    sink.setup()
                    found[f"{domain}.{system}"] = {"sent": sink.write(others).rows}
    if contract.domain in LOGGED:
        log = EventsLog(context, contract.domain)
        found[f"{contract.domain}.{LOG}"] = {"told": log.tell_anew(decided)}
    return found


def _sides(contract: Contract) -> Iterator[tuple[str, str, Side]]:
    for (domain, system), sides in SIDES.items():
        yield from ((domain, system, side) for side in sides if side.source == SILVER[contract.stream])


def _topics(contract: Contract) -> Iterator[tuple[str, str]]:
    """Destinations of the table that keep no rows to compare."""
    fed = ((key, one) for key, one in SINKS.items() if key not in SIDES)
    return (key for key, one in fed if any(route.table == SILVER[contract.stream] for route in one.routes))
