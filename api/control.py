"""Control of the domain crm in PostgreSQL's schema analytics, what all queries say, and the trail.

A change and its entry in `control_audit` are one transaction: neither is there without the other.
"""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from api.audit import OK, Act, enter, storable
from api.crm_job import NewJob
from api.database import Database
from api.problems import Problem, unavailable
from headwater.clock import iso

DOMAIN = "crm"
RUNNING, STOPPED, LOST = "running", "stopped", "lost"
# A query that is silent for longer is lost.
FRESH_S = 15
# What has been silent for so long is no query of ours any more; operators are told of it for longer.
KNOWN_H = 24
KNOWN_TO_OPERATORS_H = 24 * 7
_WHERE = "analytics.domain_control"
_RETRY_AFTER_S = 5

_DESIRED = "SELECT desired FROM analytics.domain_control WHERE domain = %(domain)s"
_WISH = """
UPDATE analytics.domain_control SET desired = %(desired)s, changed_at = now(), changed_by = %(actor)s
WHERE domain = %(domain)s
"""
_IS_LOGGED = "SELECT analytics.is_record_logged(%(tenant_id)s, %(topic)s, %(partition)s, %(offset)s)"
_ENQUEUE = """
INSERT INTO analytics.crm_enqueued (job_id, tenant_id, topic, partition, "offset", due_at)
VALUES (%(job_id)s, %(tenant_id)s, %(topic)s, %(partition)s, %(offset)s,
  now() + %(delay)s * interval '1 millisecond')
"""
_QUERIES = """
SELECT query, domain, state, lag, last_batch_at, batch_ms_p95,
  updated_at > now() - make_interval(secs => %(fresh_s)s) AS fresh
FROM analytics.query_states
WHERE (%(domain)s::text IS NULL OR domain = %(domain)s)
  AND updated_at > now() - make_interval(hours => %(known_h)s) ORDER BY query
"""
_COUNTS = """
SELECT processing_status, events FROM analytics.crm_event_counts WHERE organization_id = %(tenant_id)s
"""
_WAITING = """
SELECT count(*) FROM analytics.crm_enqueued WHERE tenant_id = %(tenant_id)s AND status = 'waiting'
"""
_ABOUT = {"domain": DOMAIN, "fresh_s": FRESH_S, "known_h": KNOWN_H}
_ABOUT_ALL = {"domain": None, "fresh_s": FRESH_S, "known_h": KNOWN_TO_OPERATORS_H}


class Control:
    """Reads and writes what is wanted. Everything raises Problem 503 while PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def wish(self, act: Act, desired: str) -> None:
        """Have the domain run or stop, from now on."""
        async with self._database.connection(_WHERE) as connection, connection.transaction():
            values = {"domain": DOMAIN, "desired": desired, "actor": storable(act.actor)}
            changed = await connection.execute(_WISH, values)
            if changed.rowcount != 1:
                raise unavailable("control_unavailable", _RETRY_AFTER_S)
            await enter(connection, act, OK)

    async def enqueue(self, act: Act, job: NewJob) -> UUID:
        """Have a record sent again. Raises Problem 404 for one that is not in the log as the tenant's."""
        job_id = uuid4()
        values = {"job_id": job_id, "tenant_id": act.tenant_id, **job.parameters()}
        async with self._database.connection(_WHERE) as connection, connection.transaction():
            found = await (await connection.execute(_IS_LOGGED, values)).fetchone()
            if found != (True,):
                raise Problem(404, "not_found")
            await connection.execute(_ENQUEUE, values)
            await enter(connection, act, OK, {"job_id": str(job_id)})
        return job_id

    async def note(self, act: Act, result: str) -> None:
        """Enter a refusal into the trail, or an act that changes nothing in PostgreSQL."""
        async with self._database.connection(_WHERE) as connection:
            await enter(connection, act, result)

    async def status(self) -> dict[str, Any]:
        """What is wanted, what is, and each query by its last word."""
        async with self._database.connection(_WHERE) as connection:
            desired = await (await connection.execute(_DESIRED, _ABOUT)).fetchone()
            queries = await _queries(connection)
        states = [state_of(query) for query in queries]
        shown = [_shown(query, state) for query, state in zip(queries, states, strict=True)]
        return {"desired": desired[0] if desired else RUNNING, "actual": actual(states), "queries": shown}

    async def queries(self) -> list[dict[str, Any]]:
        """Every query of every domain, by its last word; `state` is `lost` for one that is silent."""
        async with self._database.connection(_WHERE) as connection:
            found = await _queries(connection, _ABOUT_ALL)
        return [query | {"state": state_of(query)} for query in found]

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


async def _queries(connection: AsyncConnection[Any], about: dict[str, Any] = _ABOUT) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_QUERIES, about)
        return await cursor.fetchall()


def _shown(query: dict[str, Any], state: str) -> dict[str, Any]:
    moment: datetime | None = query["last_batch_at"]
    return {
        "name": query["query"],
        "state": state,
        # A silent query's last word on this is of no use.
        "lag": query["lag"] if query["fresh"] else None,
        "last_batch_at": iso(moment) if moment else None,
    }
