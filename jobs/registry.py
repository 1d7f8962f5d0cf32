"""JOBS: every job by the name that the command line knows."""

from collections.abc import Callable
from typing import Any

from headwater.clock import day_of, month_of
from headwater.errors import QualityError
from jobs import build_crm
from jobs.archive import archive, archived_domains
from jobs.archive_plan import window_of
from jobs.archive_verify import verify
from jobs.audit import audit
from jobs.build import BUILT, Build
from jobs.build_crm import BuildCrm
from jobs.close_period import close_period
from jobs.compact import Compact
from jobs.control import Control, ControlTables
from jobs.deliver import Deliver
from jobs.enqueued import Enqueued
from jobs.events_log import DOMAINS as LOGGED
from jobs.events_log import SYSTEM as LOG
from jobs.events_log import EventsLog
from jobs.explain_bill import explain_bill
from jobs.extract_marketo import ExtractMarketo
from jobs.import_files import ImportFiles
from jobs.import_one import import_one
from jobs.ingest import Ingest
from jobs.loops import enabled_loops, loops
from jobs.maintain import maintain
from jobs.migrate import migrate
from jobs.queries import Context, Loop, Query
from jobs.rebuild import rebuild
from jobs.reconcile import Wanted, reconcile
from jobs.refine import Refine
from jobs.replay import Replaying, replay
from jobs.report import report
from jobs.runtime import Runtime
from schemas.contract import contracts
from schemas.tables import DEAD_LETTERS, SILVER
from sinks.registry import SINKS


def _runtime(context: Context, order: Any) -> Runtime:
    """One that follows what a person wants of the domains."""
    return Runtime(context, once=order.once, control=Control(ControlTables(context.settings)))


def _ingest(context: Context, order: Any) -> None:
    _runtime(context, order).run([Ingest(context, order.domains[0])])


def _refine(context: Context, order: Any) -> None:
    _runtime(context, order).run([Refine(context, order.domains[0])])


def _build(context: Context, order: Any) -> None:
    ours = {build_crm.DOMAIN, *[table.name for table in build_crm.KEYS]}
    work = BuildCrm(context) if order.table in ours else Build(context, order.table)
    _runtime(context, order).run([work])


def _deliver(context: Context, order: Any) -> None:
    domain = order.domains[0]
    make = loops(context.settings, domain).get(order.to)
    if domain in LOGGED and order.to == LOG:
        work: Query | Loop = EventsLog(context, domain)
    else:
        work = make(context) if make else Deliver(context, domain, order.to)
    _runtime(context, order).run([work])


def _run(context: Context, order: Any) -> dict[str, Any]:
    streamed = {contract.domain for contract in contracts().values()}
    # Their rows come by files: import-files workers, which must see the files, are processes of their own.
    imported = {domain for domain, _ in SINKS} - streamed
    domains = order.domains or sorted(streamed | imported)
    stages: list[list[Query | Loop]] = [[], [], [], [], [], [], []]
    sent_again, ingests, refines, builds, deliveries, announcing, letters = stages
    for domain in domains:
        if domain not in imported:
            ingests.append(Ingest(context, domain))
            refines.append(Refine(context, domain))
            fed = {SILVER[c.stream].name for c in contracts().values() if c.domain == domain}
            builds += [Build(context, table) for table in sorted(fed & BUILT.keys())]
            if domain == build_crm.DOMAIN:
                builds.append(BuildCrm(context))
        for system in sorted(system for found, system in SINKS if found == domain):
            # Dead letters go last: other deliveries, and connectors, make some.
            tables = [route.table for route in SINKS[domain, system].routes]
            stage = letters if DEAD_LETTERS in tables else deliveries
            stage.append(Deliver(context, domain, system))
        if domain in LOGGED:
            deliveries.append(EventsLog(context, domain))
        for make in enabled_loops(context.settings, domain):
            loop = make(context)
            # What is sent again is there for ingest to take.
            (sent_again if isinstance(loop, Enqueued) else announcing).append(loop)
    streaming = [domain for domain in domains if domain not in imported]
    if streaming and not context.settings.lake_is_remote:
        # Of all domains; named by one, so that runs of others may go on beside.
        sent_again.append(Replaying(context, streaming[0]))
    runtime = _runtime(context, order)
    # A new connector begins with the leads from its own start on: before queries that take seconds to start.
    local = [] if context.settings.lake_is_remote else streaming
    compacting = [Compact(context, domain) for domain in local]
    at_once = [*announcing, *sent_again, *ingests, *refines, *builds, *deliveries, *compacting, *letters]
    # With --once each stage takes all that the one before has left.
    for works in stages if order.once else [at_once]:
        runtime.run(works)
    if not order.prove:
        return {}
    return {"proof": _proven(context, streaming, order.trace)}


def _proven(context: Context, domains: list[str], trace: tuple[str, ...]) -> dict[str, Any]:
    """What each domain's tables and destinations say. QualityError with the faults of all of them."""
    found: dict[str, Any] = {}
    faults: list[str] = []
    for domain in domains:
        try:
            found[domain] = reconcile(context, domain, trace, also_audit=True)
        except QualityError as fault:
            faults.append(f"{domain}: {fault}")
    if faults:
        raise QualityError("; ".join(faults))
    return found


def _import_files(context: Context, order: Any) -> dict[str, Any]:
    # Workers share the queue by its claims.
    runtime = Runtime(context, once=order.once or bool(order.file), alone=False)
    if order.file:
        return import_one(context, runtime, order)
    runtime.run([ImportFiles(context, runtime.stopping)])
    return {}


def _extract_marketo(context: Context, order: Any) -> None:
    Runtime(context, once=order.once).run([ExtractMarketo(context)])


def _migrate(context: Context, order: Any) -> dict[str, Any]:
    return {"changes": migrate(context)}


def _maintain(context: Context, order: Any) -> dict[str, Any]:
    return {"maintained": maintain(context)}


def _replay(context: Context, order: Any) -> dict[str, Any]:
    return replay(context, order.replay)


def _rebuild(context: Context, order: Any) -> dict[str, Any]:
    return rebuild(context, order.rebuild)


def _audit(context: Context, order: Any) -> dict[str, Any]:
    return {"audit": audit(context, order.domains[0])}


def _reconcile(context: Context, order: Any) -> dict[str, Any]:
    wanted = Wanted(order.to, order.sample, order.show, order.repair)
    return reconcile(context, order.domains[0], order.trace, order.also_audit, wanted)


def _close_period(context: Context, order: Any) -> dict[str, Any]:
    return close_period(context, month_of(order.month))


def _explain_bill(context: Context, order: Any) -> dict[str, Any]:
    return explain_bill(context, order.tenant, day_of(order.day), order.metric)


def _archive(context: Context, order: Any) -> dict[str, Any]:
    window, domains = window_of(order.first_hour, order.last_hour), archived_domains(order.domains)
    if order.verify:
        return {"verified": verify(context, domains, window)}
    return {"archive": archive(Runtime(context, once=order.once), domains, window)}


def _report(context: Context, order: Any) -> dict[str, Any]:
    return report(context, order.tables)


JOBS: dict[str, Callable[[Context, Any], dict[str, Any] | None]] = {
    "ingest": _ingest,
    "refine": _refine,
    "build": _build,
    "deliver": _deliver,
    "run": _run,
    "import-files": _import_files,
    "extract-marketo": _extract_marketo,
    "migrate": _migrate,
    "audit": _audit,
    "reconcile": _reconcile,
    "close-period": _close_period,
    "explain-bill": _explain_bill,
    "archive": _archive,
    "maintain": _maintain,
    "replay": _replay,
    "rebuild": _rebuild,
    "report": _report,
}
