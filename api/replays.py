"""analytics.replays as the API's role may see it: it asks for replays and approves their plans, which a job
makes and carries out.

Each statement names the tenant; a change and its entry in the trail are one transaction.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from api.audit import OK, Act, enter, storable
from api.database import Database
from api.problems import Problem
from api.query import place
from api.replays_body import Request
from api.security import DLQ_REPLAY, PII_READ, Principal
from headwater.clock import iso
from schemas.patch import Patch

REQUESTED, PLANNED, APPROVED, APPLIED = "requested", "planned", "approved", "applied"
REFUSED, FAILED = "refused", "failed"
STATUSES = (REQUESTED, PLANNED, APPROVED, APPLIED, REFUSED, FAILED)
# What still has to be done by a job, of one tenant: each costs a look at all its letters.
MOST_OPEN = 20
_TABLE = "analytics.replays"
_COLUMNS = """replay_id, author, why, wanted, patch, patch_sha256, status, plan, approved_by, result, error,
  created_at, planned_at, approved_at, ended_at"""
# Whoever asks for the same tenant waits, so that all of them are counted.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('analytics.replays ' || %(tenant_id)s, 0))"
_OPEN = """
SELECT count(*) FROM analytics.replays
WHERE tenant_id = %(tenant_id)s AND status IN ('requested', 'approved')
"""
_REQUEST = """
INSERT INTO analytics.replays (replay_id, tenant_id, author, why, wanted, patch, patch_sha256)
VALUES (%(replay_id)s, %(tenant_id)s, %(author)s, %(why)s, %(wanted)s, %(patch)s, %(patch_sha256)s)
"""
_ONE = f"""
SELECT {_COLUMNS} FROM analytics.replays WHERE replay_id = %(replay_id)s AND tenant_id = %(tenant_id)s
"""  # noqa: S608 - names of this file only
_LIST = f"""
SELECT {_COLUMNS} FROM analytics.replays
WHERE tenant_id = %(tenant_id)s AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(micros)s::bigint IS NULL OR (created_at, replay_id)
    < (timestamptz 'epoch' + %(micros)s * interval '1 microsecond', %(after)s::uuid))
ORDER BY created_at DESC, replay_id DESC LIMIT %(limit)s
"""  # noqa: S608 - names of this file only
_APPROVE = "SELECT analytics.approve_replay(%(replay_id)s, %(tenant_id)s, %(actor)s)"
# Why a replay in this state cannot be approved.
_UNFIT = {REQUESTED: "not_planned", REFUSED: "replay_refused", FAILED: "replay_failed"}
Place = tuple[int, UUID]
Replay = dict[str, Any]


class Replays:
    """Everything raises Problem 503 while PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, act: Act, wanted: Request) -> UUID:
        """Ask for one. Raises Problem 409 when too many of the tenant's are open."""
        patch, replay_id = wanted.patch, uuid4()
        values = {
            "replay_id": replay_id,
            "tenant_id": act.tenant_id,
            "author": storable(act.actor),
            "why": wanted.order.why,
            "wanted": Jsonb(wanted.order.wanted.given),
            "patch": None if patch is None else Jsonb(patch),
            "patch_sha256": None if patch is None else Patch(tuple(patch)).sha256,
        }
        async with self._database.connection(_TABLE) as connection, connection.transaction():
            await connection.execute(_ALONE, values)
            if (await _value(connection, _OPEN, values)) >= MOST_OPEN:
                raise Problem(409, "too_many_open")
            await connection.execute(_REQUEST, values)
            await enter(connection, act, OK, {"replay_id": str(replay_id)})
        return replay_id

    async def newest(
        self, tenant_id: str, status: str | None, after: Place | None, limit: int
    ) -> list[Replay]:
        """Replays, newest first, from behind the place of one."""
        micros, replay_id = after or (None, None)
        values = {"status": status, "micros": micros, "after": replay_id, "limit": limit}
        async with self._database.connection(_TABLE) as connection:
            return await _rows(connection, _LIST, values | {"tenant_id": tenant_id})

    async def find(self, tenant_id: str, replay_id: UUID) -> Replay:
        """Raises Problem 404 for one that is not there, or is another tenant's, or nobody's."""
        async with self._database.connection(_TABLE) as connection:
            return await _found(connection, {"tenant_id": tenant_id, "replay_id": replay_id})

    async def approve(self, act: Act, replay_id: UUID) -> str:
        """Have the plan carried out; its state then. Once is enough: one that was approved stays as it is.

        Raises Problem 404, or 409 for one without a plan, or whose plan no longer holds.
        """
        values = {"tenant_id": act.tenant_id, "replay_id": replay_id, "actor": storable(act.actor)}
        async with self._database.connection(_TABLE) as connection, connection.transaction():
            if await _value(connection, _APPROVE, values):
                status = APPROVED
            else:
                status = (await _found(connection, values))["status"]
            if status in _UNFIT:
                raise Problem(409, _UNFIT[status])
            await enter(connection, act, OK, {"status": status})
        return status


def place_of(replay: Replay) -> str:
    """The cursor behind this replay in the list."""
    return place(replay["created_at"], replay["replay_id"])


def sees_values(caller: Principal) -> bool:
    """Whether the values of a patch are shown: to who may send them, or may see persons."""
    return bool(caller.scopes & {DLQ_REPLAY, PII_READ})


def shown(replay: Replay, values: bool) -> dict[str, Any]:
    """A replay for programs; `values`: those of its patch, too, which may be somebody's."""
    found = {name: iso(v) if isinstance(v, datetime) else v for name, v in replay.items()}
    found["replay_id"] = str(replay["replay_id"])
    if not values and replay["patch"] is not None:
        found["patch"] = [
            {k: v for k, v in one.items() if k in ("op", "path", "from")} for one in replay["patch"]
        ]
    return found


async def _found(connection: AsyncConnection[Any], values: dict[str, Any]) -> Replay:
    found = await _rows(connection, _ONE, values)
    if not found:
        raise Problem(404, "not_found")
    return found[0]


async def _rows(connection: AsyncConnection[Any], query: str, values: dict[str, Any]) -> list[Replay]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()


async def _value(connection: AsyncConnection[Any], query: str, values: dict[str, Any]) -> Any:
    found = await (await connection.execute(query.encode(), values)).fetchone()
    return found[0] if found else None
