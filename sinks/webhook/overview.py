"""public.webhook_deliveries of all connectors, for people: the newest, and which to try again."""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row

from headwater.postgres import connected, writer_conninfo
from headwater.settings import Settings

STATUSES = ("pending", "delivered", "dead", "gone")
NEWEST = """
SELECT id, connector, status, attempts, last_status, last_error, dead_reason, next_attempt_at, created_at,
  delivered_at, tenant_id, event_id::text, lead_id::text
FROM webhook_deliveries WHERE {} ORDER BY id DESC LIMIT {}
"""
SESSION = "-c timezone=UTC -c statement_timeout=60s"
ENTERED = "SELECT tenant_id, event_id::text FROM webhook_deliveries WHERE {}"
# `attempts` starts again as well: the first wait is short. A letter stands for one death: the next needs its
# own. Rows are locked by id, as by who delivers them.
RETRY = """
UPDATE webhook_deliveries
SET status = 'pending', attempts = 0, next_attempt_at = now(), pending_since = now(), dead_reason = NULL,
  lettered_at = NULL
WHERE id IN (SELECT id FROM webhook_deliveries WHERE status <> 'delivered' AND {} ORDER BY id FOR UPDATE)
"""


@dataclass(frozen=True)
class Wanted:
    """Which deliveries: those that meet all that is given."""

    ids: tuple[int, ...] = ()
    connector: str | None = None
    status: str | None = None
    events: tuple[tuple[str, str], ...] = ()  # tenant and event

    def condition(self) -> sql.Composable:
        """The same in SQL."""
        parts = [
            sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
            for name, value in (("connector", self.connector), ("status", self.status))
            if value is not None
        ]
        if self.ids:
            parts.append(sql.SQL("id = ANY({})").format(sql.Literal(list(self.ids))))
        if self.events:
            pairs = [sql.SQL("({}, {}::uuid)").format(*map(sql.Literal, pair)) for pair in self.events]
            parts.append(sql.SQL("(tenant_id, event_id) IN ({})").format(sql.SQL(", ").join(pairs)))
        return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")


@dataclass(frozen=True)
class Listed:
    """A delivery as people see it: ids, times and codes, nothing of the lead."""

    id: int
    connector: str
    status: str
    attempts: int
    last_status: int | None
    last_error: str | None
    dead_reason: str | None
    next_attempt_at: datetime
    created_at: datetime
    delivered_at: datetime | None
    tenant_id: str
    event_id: str
    lead_id: str


class Overview:
    """All connectors' deliveries. Faults are those of the sinks."""

    def __init__(self, settings: Settings) -> None:
        self._conninfo = writer_conninfo(settings.postgres, "headwater deliveries", SESSION)

    def newest(self, wanted: Wanted, limit: int) -> list[Listed]:
        """The newest so many, newest first."""
        query = sql.SQL(NEWEST).format(wanted.condition(), sql.Literal(limit))
        with (
            connected(self._conninfo, "webhook_deliveries") as connection,
            connection.cursor(row_factory=class_row(Listed)) as cursor,
        ):
            return cursor.execute(query).fetchall()

    def entered(self, wanted: Wanted) -> set[tuple[str, str]]:
        """Tenant and event of all of them, delivered ones too."""
        with connected(self._conninfo, "webhook_deliveries") as connection:
            rows = connection.execute(sql.SQL(ENTERED).format(wanted.condition())).fetchall()
        return {(tenant, event) for tenant, event in rows}

    def retry(self, wanted: Wanted) -> int:
        """Make them due now, but for delivered ones; how many."""
        with connected(self._conninfo, "webhook_deliveries") as connection:
            return connection.execute(sql.SQL(RETRY).format(wanted.condition())).rowcount
