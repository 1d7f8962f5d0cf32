"""Acts of known callers that are entered into the audit trail, whatever becomes of them.

Also those that are refused: without the scope, for a fault in the request, for what is not their tenant's.
Too fast or unknown callers are not: whoever knocks must not be able to fill the trail.
"""

import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request

from api.audit import Act
from api.problems import Problem
from api.security import ForbiddenError, Principal
from api.services import services

_OUTAGE = 500


@dataclass
class Acting:
    """Who acts, and what of it is known so far."""

    caller: Principal
    act: Act


Admit = Callable[[Request, str], Awaitable[Principal]]


async def by_credential(request: Request, scope: str) -> Principal:
    """Programs are admitted by what the request's head brings."""
    return await services(request).admit(request, scope)


@asynccontextmanager
async def acting(
    request: Request, scope: str, action: str, admit: Admit = by_credential
) -> AsyncIterator[Acting]:
    """The caller, who may. What is refused here or inside is entered into the trail first; what is done,
    inside enters."""
    room = services(request)
    try:
        caller = await admit(request, scope)
    except ForbiddenError as refusal:
        await room.pace(request, refusal.caller)
        await room.control.note(_act(request, refusal.caller, action), refusal.code)
        raise
    found = Acting(caller, _act(request, caller, action))
    try:
        yield found
    except Problem as refusal:
        if refusal.status < _OUTAGE:
            await room.control.note(found.act, refusal.code)
        raise


def _act(request: Request, caller: Principal, action: str) -> Act:
    return Act(caller.actor, caller.tenant_id, action, _address(request), request.state.request_id)


def _address(request: Request) -> str | None:
    """Where the connection comes from. No X-Forwarded-* is believed: behind a proxy it is the proxy's."""
    try:
        found = ipaddress.ip_address((request.client.host if request.client else "").partition("%")[0])
    except ValueError:
        return None
    return str(found)
