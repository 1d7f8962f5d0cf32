"""public.webhook_deliveries of one connector: taken from the outbox, claimed, ended.

What the connector's `only` leaves out is not entered. Whether it does is looked at again when a row is
claimed: leads may not have had the row before, or another version of it.

A claim is a lease: `next_attempt_at` moves behind the time that a request may take, so a row whose sender was
killed comes due again by itself. Every time here is PostgreSQL's: the clocks of those who send may differ.
Only a date in a receiver's Retry-After is measured by the sender's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql
from psycopg.rows import class_row

from headwater.errors import SetupError
from headwater.postgres import Link, writer_conninfo
from headwater.settings import Settings
from sinks.outbox_reader import SESSION
from sinks.webhook.only import condition, parameters

ENABLE = """
INSERT INTO webhook_connectors (connector, position)
SELECT %s, coalesce(max(seq), 0) FROM lead_outbox ON CONFLICT DO NOTHING
"""
REWIND = "UPDATE webhook_connectors SET position = 0 WHERE connector = %s"
# The writers of the outbox take turns, so no row appears below a number that has been seen.
ENQUEUE = """
WITH taken AS (
  SELECT told.* FROM lead_outbox AS told
  WHERE seq > (SELECT position FROM webhook_connectors WHERE connector = %(connector)s)
  ORDER BY seq LIMIT %(limit)s),
entered AS (
  INSERT INTO webhook_deliveries (connector, tenant_id, lead_id, event_id, row_version,
    source_topic, source_partition, source_offset)
  SELECT %(connector)s, taken.tenant_id, lead_id, taken.event_id, taken.row_version,
    source_topic, source_partition, source_offset
  FROM taken LEFT JOIN leads AS kept ON kept.id = taken.lead_id AND kept.row_version >= taken.row_version
  WHERE (%(tenants)s::text[] IS NULL OR taken.tenant_id = ANY(%(tenants)s))
    AND coalesce({wanted}, kept.id IS NULL)
  ORDER BY seq ON CONFLICT DO NOTHING),
moved AS (
  UPDATE webhook_connectors SET position = greatest(position, (SELECT max(seq) FROM taken))
  WHERE connector = %(connector)s AND EXISTS (SELECT FROM taken))
SELECT count(*) FROM taken
"""
CLAIM = """
WITH due AS (
  SELECT id FROM webhook_deliveries
  WHERE connector = %(connector)s AND status = 'pending' AND next_attempt_at <= now()
  ORDER BY next_attempt_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
claimed AS (
  UPDATE webhook_deliveries AS sent SET attempts = attempts + 1, next_attempt_at = now() + %(lease)s
  FROM due WHERE sent.id = due.id RETURNING sent.*)
SELECT claimed.id, claimed.event_id::text, claimed.attempts, now() AS claimed_at,
  now() - claimed.pending_since AS age, coalesce({wanted}, kept.id IS NULL) AS wanted, to_jsonb(kept) AS row
FROM claimed LEFT JOIN leads AS kept
  ON kept.id = claimed.lead_id AND kept.row_version >= claimed.row_version
ORDER BY claimed.id
"""
# Whoever still holds the lease decides; that it was delivered is true whoever says so. Rows are locked by id,
# as by whoever has them tried again: in two orders they would wait for each other.
DELIVERED = """
UPDATE webhook_deliveries AS sent
SET status = 'delivered', delivered_at = now(), last_status = taken.status, last_error = NULL
FROM unnest(%(ids)s::bigint[], %(statuses)s::int[]) AS taken (id, status)
WHERE sent.id = taken.id AND sent.status <> 'delivered'
  AND sent.id IN (SELECT id FROM webhook_deliveries WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE)
"""
END = """
UPDATE webhook_deliveries SET status = %s, dead_reason = %s, last_status = %s, last_error = %s
WHERE id = %s AND attempts = %s AND status = 'pending'
"""
AGAIN = """
UPDATE webhook_deliveries SET next_attempt_at = now() + %s, last_status = %s, last_error = %s
WHERE id = %s AND attempts = %s AND status = 'pending'
"""
UNLETTERED = """
SELECT id, pending_since, tenant_id, lead_id::text, event_id::text, row_version, dead_reason, last_status,
  last_error, source_topic, source_partition, source_offset
FROM webhook_deliveries
WHERE connector = %s AND status = 'dead' AND lettered_at IS NULL ORDER BY id LIMIT %s
"""
# One that was tried again meanwhile, and has died again, needs its letter once more.
LETTERED = """
UPDATE webhook_deliveries AS sent SET lettered_at = now()
FROM unnest(%s::bigint[], %s::timestamptz[]) AS told (id, since)
WHERE sent.id = told.id AND sent.pending_since = told.since
"""
PENDING = "SELECT count(*) FROM webhook_deliveries WHERE connector = %s AND status = 'pending'"


@dataclass(frozen=True)
class Claimed:
    """A delivery to send now, if it is wanted, pending for `age`; `row` is None while leads does not hold its
    version."""

    id: int
    event_id: str
    attempts: int
    claimed_at: datetime
    age: timedelta
    wanted: bool
    row: dict[str, Any] | None


@dataclass(frozen=True)
class Dead:
    """A delivery that has ended badly, and where its event came from (null: from before the outbox)."""

    id: int
    pending_since: datetime
    tenant_id: str
    lead_id: str
    event_id: str
    row_version: int
    dead_reason: str
    last_status: int | None
    last_error: str | None
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None


class Deliveries:
    """The deliveries of one connector."""

    def __init__(self, settings: Settings, connector: str, query: str) -> None:
        self._link = Link(writer_conninfo(settings.postgres, query, SESSION), "webhook_deliveries")
        self._connector = connector
        only = settings.connectors[connector].only
        self._enqueue, self._claim = (
            sql.SQL(text).format(wanted=condition(only)) for text in (ENQUEUE, CLAIM)
        )
        self._values = {"connector": connector, **parameters(only)}

    def enable(self, *, from_start: bool) -> None:
        """Begin behind what was announced before, at the first time; `from_start`: with the first one."""
        with self._link() as connection:
            found = connection.execute("SELECT to_regclass('public.webhook_deliveries')").fetchone()
            if found == (None,):
                raise SetupError(
                    "PostgreSQL lacks the table webhook_deliveries: run `python -m jobs migrate`"
                )
            connection.execute(ENABLE, (self._connector,))
            if from_start:
                connection.execute(REWIND, (self._connector,))

    def enqueue(self, tenants: Sequence[str], limit: int) -> int:
        """Take the next announcements; how many were looked at. An event is entered once."""
        values = self._values | {"limit": limit, "tenants": list(tenants) or None}
        with self._link() as connection:
            found = connection.execute(self._enqueue, values).fetchone()
        return int(found[0]) if found else 0

    def claim(self, limit: int, lease: timedelta) -> list[Claimed]:
        """Deliveries that are due, for nobody else until the lease ends."""
        with self._link() as connection, connection.cursor(row_factory=class_row(Claimed)) as cursor:
            return cursor.execute(self._claim, self._values | {"limit": limit, "lease": lease}).fetchall()

    def delivered(self, statuses: Mapping[int, int]) -> None:
        """They were taken: id → status."""
        with self._link() as connection:
            connection.execute(DELIVERED, {"ids": list(statuses), "statuses": list(statuses.values())})

    def again(self, claimed: Claimed, wait: timedelta, status: int | None, error: str | None) -> None:
        """It was not; try again after that."""
        with self._link() as connection:
            connection.execute(AGAIN, (wait, status, error, claimed.id, claimed.attempts))

    def end(
        self, claimed: Claimed, end: str, reason: str | None, status: int | None, error: str | None
    ) -> None:
        """It is `dead` for this reason, or its lead is `gone`."""
        with self._link() as connection:
            connection.execute(END, (end, reason, status, error, claimed.id, claimed.attempts))

    def unlettered(self, limit: int) -> list[Dead]:
        """Dead ones without a dead letter, oldest first."""
        with self._link() as connection, connection.cursor(row_factory=class_row(Dead)) as cursor:
            return cursor.execute(UNLETTERED, (self._connector, limit)).fetchall()

    def lettered(self, dead: Sequence[Dead]) -> None:
        """The dead letters of these deaths are there."""
        with self._link() as connection:
            connection.execute(LETTERED, ([one.id for one in dead], [one.pending_since for one in dead]))

    def pending(self) -> int:
        """How many are not at their end."""
        with self._link() as connection:
            found = connection.execute(PENDING, (self._connector,)).fetchone()
        return int(found[0]) if found else 0

    def close(self) -> None:
        """Give back the connection."""
        self._link.close()
