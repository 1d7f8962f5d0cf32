"""Control of the domain crm in PostgreSQL's schema analytics, and the trail of who asked for what.

A change and its entry in `control_audit` are one transaction: neither is there without the other.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from api.crm_job import NewJob
from api.database import Database
from api.problems import Problem, unavailable
from headwater.clock import iso

DOMAIN = "crm"
RUNNING, STOPPED, LOST = "running", "stopped", "lost"
OK = "ok"
# A query that is silent for longer is lost.
FRESH_S = 15
# What has been silent for so long is no query of ours any more.
KNOWN_H = 24
_WHERE = "analytics.domain_control"
_RETRY_AFTER_S = 5

_DESIRED = "SELECT desired FROM analytics.domain_control WHERE domain = %(domain)s"
_WISH = """
UPDATE analytics.domain_control SET desired = %(desired)s, changed_at = now(), changed_by = %(actor)s
WHERE domain = %(domain)s
"""
_NOTE = """
INSERT INTO analytics.control_audit (actor, tenant_id, action, detail, remote_addr, request_id, result)
VALUES (%(actor)s, %(tenant_id)s, %(action)s, %(detail)s, %(remote_addr)s, %(request_id)s, %(result)s)
"""
_IS_LOGGED = "SELECT analytics.is_record_logged(%(tenant_id)s, %(topic)s, %(partition)s, %(offset)s)"
_ENQUEUE = """
INSERT INTO analytics.crm_enqueued (job_id, tenant_id, topic, partition, "offset", due_at)
VALUES (%(job_id)s, %(tenant_id)s, %(topic)s, %(partition)s, %(offset)s,
  now() + %(delay)s * interval '1 millisecond')
"""
_QUERIES = """
SELECT query, state, lag, last_batch_at, batch_ms_p95,
  updated_at > now() - make_interval(secs => %(fresh_s)s) AS fresh
FROM analytics.query_states
WHERE domain = %(domain)s AND updated_at > now() - make_interval(hours => %(known_h)s) ORDER BY query
"""
_COUNTS = """
SELECT processing_status, events FROM analytics.crm_event_counts WHERE organization_id = %(tenant_id)s
"""
_WAITING = """
SELECT count(*) FROM analytics.crm_enqueued WHERE tenant_id = %(tenant_id)s AND status = 'waiting'
"""
_ABOUT = {"domain": DOMAIN, "fresh_s": FRESH_S, "known_h": KNOWN_H}


@dataclass(frozen=True)
class Act:
    """Who asked for what, when and from where."""

    actor: str
    tenant_id: str
    action: str
    remote_addr: str | None
    request_id: str
    detail: dict[str, Any] = field(default_factory=dict)


class Control:
    """Reads and writes what is wanted. Everything raises Problem 503 while PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def wish(self, act: Act, desired: str) -> None:
        """Have the domain run or stop, from now on."""
        async with self._database.connection(_WHERE) as connection, connection.transaction():
            values = {"domain": DOMAIN, "desired": desired, "actor": _storable(act.actor)}
            changed = await connection.execute(_WISH, values)
            if changed.rowcount != 1:
                raise unavailable("control_unavailable", _RETRY_AFTER_S)
            await _note(connection, act, OK)

    async def enqueue(self, act: Act, job: NewJob) -> UUID:
        """Have a record sent again. Raises Problem 404 for one that is not in the log as the tenant's."""
        job_id = uuid4()
        values = {"job_id": job_id, "tenant_id": act.tenant_id, **job.parameters()}
        async with self._database.connection(_WHERE) as connection, connection.transaction():
            found = await (await connection.execute(_IS_LOGGED, values)).fetchone()
            if found != (True,):
                raise Problem(404, "not_found")
            await connection.execute(_ENQUEUE, values)
            await _note(connection, act, OK, {"job_id": str(job_id)})
        return job_id

    async def note(self, act: Act, result: str) -> None:
        """Enter a refusal into the trail, or an act that changes nothing in PostgreSQL."""
        async with self._database.connection(_WHERE) as connection:
            await _note(connection, act, result)

    async def status(self) -> dict[str, Any]:
        """What is wanted, what is, and each query by its last word."""
        async with self._database.connection(_WHERE) as connection:
            desired = await (await connection.execute(_DESIRED, _ABOUT)).fetchone()
            queries = await _queries(connection)
        states = [state_of(query) for query in queries]
        shown = [_shown(query, state) for query, state in zip(queries, states, strict=True)]
        return {"desired": desired[0] if desired else RUNNING, "actual": actual(states), "queries": shown}

    async def metrics(self, tenant_id: str) -> dict[str, Any]:
        """The tenant's counts; the time of batches is everybody's."""
        about = {"tenant_id": tenant_id}
        async with self._database.connection(_WHERE) as connection:
            counts = dict(await (await connection.execute(_COUNTS, about)).fetchall())
            waiting = await (await connection.execute(_WAITING, about)).fetchone()
            queries = await _queries(connection)
        times = [query["batch_ms_p95"] for query in queries if query["batch_ms_p95"] is not None]
        return {
            "processed": counts.get("processed", 0),
            "skipped": counts.get("skipped", 0),
            "errors": counts.get("failed", 0),
            "processing_ms_p95": max(times, default=None),
            "queue_depth": waiting[0] if waiting else 0,
        }


def state_of(query: dict[str, Any]) -> str:
    """Its last word, unless it has been silent since; one that was stopped has nothing more to say."""
    state: str = query["state"]
    return state if query["fresh"] or state == STOPPED else LOST


def actual(states: list[str]) -> str:
    """Of the domain: all of its queries run, none does, or it is on its way, or partly broken."""
    if states and all(state == RUNNING for state in states):
        return RUNNING
    # One that is stopping, starting or between two attempts is on its way; one that failed or is lost is not.
    still = {STOPPED, LOST, "failed"}
    return STOPPED if all(state in still for state in states) else "changing"


async def _queries(connection: AsyncConnection[Any]) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES, _ABOUT)
        return await cursor.fetchall()


async def _note(
    connection: AsyncConnection[Any], act: Act, result: str, more: dict[str, Any] | None = None
) -> None:
    values = {
        "actor": _storable(act.actor),
        "tenant_id": act.tenant_id,
        "action": act.action,
        "detail": Jsonb(act.detail | (more or {})),
        "remote_addr": act.remote_addr,
        "request_id": act.request_id,
        "result": result,
    }
    await connection.execute(_NOTE, values)


def _storable(actor: str) -> str:
    """A token's subject is any text; PostgreSQL takes no NUL."""
    return actor.replace("\0", "\ufffd")


def _shown(query: dict[str, Any], state: str) -> dict[str, Any]:
    moment: datetime | None = query["last_batch_at"]
    return {
        "name": query["query"],
        "state": state,
        # A silent query's last word on this is of no use.
        "lag": query["lag"] if query["fresh"] else None,
        "last_batch_at": iso(moment) if moment else None,
    }
