"""An entry of the audit trail (analytics.control_audit): who asked for what, from where, and what came of it.

Written in the transaction of the change that it tells of: neither is there without the other.
"""

from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

OK = "ok"
_ENTER = """
INSERT INTO analytics.control_audit (actor, tenant_id, action, detail, remote_addr, request_id, result)
VALUES (%(actor)s, %(tenant_id)s, %(action)s, %(detail)s, %(remote_addr)s, %(request_id)s, %(result)s)
"""


@dataclass(frozen=True)
class Act:
    """Who asked for what, when and from where."""

    actor: str
    tenant_id: str
    action: str
    remote_addr: str | None
    request_id: str
    detail: dict[str, Any] = field(default_factory=dict)


async def enter(
    connection: AsyncConnection[Any], act: Act, result: str, more: dict[str, Any] | None = None
) -> None:
    """Enter it, with `more` in its detail."""
    values = {
        "actor": storable(act.actor),
        "tenant_id": act.tenant_id,
        "action": act.action,
        "detail": Jsonb(act.detail | (more or {})),
        "remote_addr": act.remote_addr,
        "request_id": act.request_id,
        "result": result,
    }
    await connection.execute(_ENTER, values)


def storable(actor: str) -> str:
    """A token's subject is any text; PostgreSQL takes no NUL."""
    return actor.replace("\0", "\ufffd")
