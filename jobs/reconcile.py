"""reconcile: compare every destination with the lake, by key, version and a hash of all delivered columns.

Reads silver and gold, bronze, ops.dead_letters and the destinations, and writes nothing, unless it is told to
repair (jobs/repair.py).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from headwater.errors import QualityError, SetupError
from headwater.log import logger
from jobs.audit import audit
from jobs.chosen import ALL, sample
from jobs.compare import Compared, compare
from jobs.expected import count
from jobs.queries import Context
from jobs.repair import repair
from jobs.sides import Side, events_side, postgres_side
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


@dataclass(frozen=True)
class Wanted:
    """What is asked of reconcile: one destination, None for all; about so many keys of each table, None for
    all; so many examples; to repair what differs."""

    to: str | None = None
    sample: int | None = None
    show: int = 5
    repair: bool = False


def reconcile(
    context: Context,
    domain: str,
    trace: tuple[str, ...] = (),
    also_audit: bool = False,
    wanted: Wanted | None = None,
) -> dict[str, Any]:
    """Counts per destination, and per prefix of `trace`. Raises QualityError naming every difference that is
    there at the end."""
    wanted = wanted or Wanted()
    sides = [*_sides(domain, wanted.to, also_audit)]
    faults: list[str] = []
    result: dict[str, Any] = {"reconcile": {}}
    with ThreadPoolExecutor(1) as pool:
        # Spark audits while the driver reads the destinations.
        audited = pool.submit(audit, context, domain) if also_audit else None
        if trace:
            result["trace"] = traced(context, [*domain_contracts(domain).values()], trace)
            _log.info("traced", domain=domain, prefixes=result["trace"])
        for system, side in sides:
            result["reconcile"][side.name] = _reconciled(context, domain, system, side, wanted, faults)
    if audited:
        try:
            result["audit"] = audited.result()
        except QualityError as fault:
            faults.append(str(fault))
    if faults:
        raise QualityError("reconcile: " + "; ".join(faults))
    return result


def _sides(domain: str, to: str | None, also_audit: bool) -> Iterator[tuple[str, Side]]:
    """The domain's destinations in their order. Raises SetupError when none can be compared."""
    known = sorted(system for found, system in SIDES if found == domain)
    if to and to not in known:
        raise SetupError(
            f"domain {domain!r} has no destination {to!r} that can be compared; known: {', '.join(known)}"
        )
    if not known and not also_audit:
        raise SetupError(f"domain {domain!r} has no destination that can be compared; see jobs audit")
    return ((system, side) for system in known if to in (None, system) for side in SIDES[domain, system])


def _reconciled(
    context: Context, domain: str, system: str, side: Side, wanted: Wanted, faults: list[str]
) -> dict[str, Any]:
    """What is told of one table; what is not as it should be at the end is added to the faults."""
    of = count(context, system, side) if wanted.sample else 0
    chosen = sample(wanted.sample, of) if wanted.sample else ALL
    compared = compare(context, system, side, chosen, wanted.show)
    told: dict[str, Any] = {"silver": compared.silver, "found": compared.found, **compared.counts}
    if wanted.sample:
        told["sampled"] = {"keys": compared.silver, "of": of}
    if examples := compared.examples(wanted.show):
        told["examples"] = examples
    _log.info("reconciled", system=side.name, **told)
    if wanted.repair and compared.keys:
        told["repaired"], compared = repair(context, domain, system, side, compared, wanted.show)
        told["left"] = compared.counts
    faults += _faults(side.name, compared, wanted)
    return told


def _faults(name: str, compared: Compared, wanted: Wanted) -> Iterator[str]:
    examples, left = compared.examples(wanted.show), " are left" if wanted.repair else ""
    for kind, number in compared.counts.items():
        if number:
            some = examples.get(kind, [])
            more = ", …" if number > len(some) else ""
            shown = f" ({', '.join(some)}{more})" if some else ""
            yield f"{name}: {number} rows {kind}{left}{shown}"
