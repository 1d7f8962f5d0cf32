"""The parts of the operators' front page: each is for those who have its scope, and tells by itself when what
it shows cannot be reached.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from starlette.requests import Request

from api.health import health_of
from api.page.areas import OPS
from api.page.ops_charts import trends
from api.page.render import html_of
from api.page.visit import Visitor
from api.page.words import refusal_of
from api.problems import Problem
from api.security import DLQ_READ, JOBS_READ, QUALITY_READ
from api.services import services

# The order of the flow; what comes beside it is behind it.
VERBS = ("ingest", "refine", "build", "deliver")
REPLAYS_ON_FRONT = 5
Query = dict[str, Any]
Look = Callable[[Request, Visitor, str], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Part:
    """A section of the page: what it is called, its scope, and what its template needs. `in_trail`: what it
    shows is entered into the audit trail."""

    title: str
    scope: str
    look: Look
    in_trail: bool = False


async def _flow(request: Request, _visitor: Visitor, _span: str) -> dict[str, Any]:
    queries = await services(request).ops.queries()
    return {"domains": by_domain(queries), "health": await health_of(request).look()}


async def _balance(request: Request, visitor: Visitor, span: str) -> dict[str, Any]:
    return {"books": await services(request).ops.books(visitor.principal, span), "span": span}


async def _letters(request: Request, visitor: Visitor, span: str) -> dict[str, Any]:
    return {"refused": await services(request).ops.refused(visitor.principal, span), "span": span}


async def _replays(request: Request, visitor: Visitor, _span: str) -> dict[str, Any]:
    room, tenant = services(request), visitor.principal.tenant_id
    return {"replays": await room.replays.newest(tenant, None, None, REPLAYS_ON_FRONT)}


async def _quality(request: Request, visitor: Visitor, _span: str) -> dict[str, Any]:
    runs = await services(request).ops.quality(visitor.principal)
    return {"trends": None if runs is None else trends(runs)}


PARTS = {
    "flow": Part("Flow and health", JOBS_READ, _flow),
    "balance": Part("The ledger's balance", JOBS_READ, _balance),
    "letters": Part("Dead letters", DLQ_READ, _letters, in_trail=True),
    "replays": Part("Replays", DLQ_READ, _replays, in_trail=True),
    "quality": Part("Quality", QUALITY_READ, _quality),
}


async def parts(request: Request, visitor: Visitor, span: str, untold: Problem | None) -> dict[str, str]:
    """The HTML of each part that the visitor may see. `untold`: why the trail could not be told of those that
    belong into it; they are not shown then."""
    found = {}
    for name, part in PARTS.items():
        if visitor.may(part.scope):
            found[name] = await _html(request, visitor, span, name, untold if part.in_trail else None)
    return found


async def _html(request: Request, visitor: Visitor, span: str, name: str, untold: Problem | None) -> str:
    part = PARTS[name]
    try:
        if untold:
            raise untold
        values = await part.look(request, visitor, span)
    except Problem as problem:
        words = refusal_of(problem, services(request).settings, OPS)
        return html_of("ops_away.html", visitor, id=name, title=part.title, refusal=words)
    return html_of(f"ops_{name}.html", visitor, id=name, title=part.title, **values)


def by_domain(queries: list[Query]) -> dict[str, list[Query]]:
    """The queries of each domain, in the order of the flow."""
    ordered = sorted(queries, key=lambda query: (query["domain"], _step(query), query["query"]))
    return {domain: list(found) for domain, found in groupby(ordered, itemgetter("domain"))}


def _step(query: Query) -> int:
    verb = query["query"].partition(".")[0]
    return VERBS.index(verb) if verb in VERBS else len(VERBS)
