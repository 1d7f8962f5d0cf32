"""public.lead_outbox → whoever relays it: what is not relayed yet, oldest first, with the lead's row.

By `relayed_at`, not by a remembered position. A row waits while `leads` does not hold its version: a rebuild
may be filling the table. One whose lead does not come back within the patience belongs to an erased lead; the
patience begins when the relay first does not find the lead, however old the row is.
"""

from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from headwater.errors import SetupError
from headwater.postgres import Link, writer_conninfo
from headwater.settings import Settings

# The session of a loop: short statements by index. UTC is what times in documents are written in. A commit
# does not wait for the disk: what a crash of the server takes back, a mark or a claim, is done again anyway.
SESSION = "-c jit=off -c timezone=UTC -c synchronous_commit=off -c lock_timeout=30s -c statement_timeout=60s"
PATIENCE = timedelta(hours=72)
# Counting what waits, and looking for what is gone, reads all that waits.
LOOKS_EVERY_S = 15.0
# Changed by one statement, which has 60 s: 200,000 take 3.5 s, more when all is large.
ROWS_AT_ONCE = 20_000

DUE = """
SELECT told.seq, told.tenant_id, kept.idempotency_key, to_json(kept)::text
FROM lead_outbox AS told JOIN leads AS kept ON kept.id = told.lead_id AND kept.row_version >= told.row_version
WHERE told.relayed_at IS NULL ORDER BY told.seq LIMIT %s
"""
MARK = "UPDATE lead_outbox SET relayed_at = now() WHERE seq = ANY(%s) AND relayed_at IS NULL"
ENDS = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM lead_outbox"
FORGET = """
UPDATE lead_outbox SET relayed_at = NULL, missing_since = NULL
WHERE seq BETWEEN %s AND %s AND relayed_at IS NOT NULL
"""
BACK = """
UPDATE lead_outbox SET missing_since = NULL
WHERE seq IN (
  SELECT told.seq FROM lead_outbox AS told JOIN leads AS kept ON kept.id = told.lead_id
  WHERE told.relayed_at IS NULL AND told.missing_since IS NOT NULL LIMIT %s)
"""
MISSING = """
UPDATE lead_outbox SET missing_since = now()
WHERE seq IN (
  SELECT told.seq FROM lead_outbox AS told
  WHERE told.relayed_at IS NULL AND told.missing_since IS NULL
    AND NOT EXISTS (SELECT FROM leads AS kept WHERE kept.id = told.lead_id) LIMIT %s)
"""
GONE = """
UPDATE lead_outbox SET relayed_at = now()
WHERE seq IN (
  SELECT told.seq FROM lead_outbox AS told
  WHERE told.relayed_at IS NULL AND told.missing_since <= now() - %s
    AND NOT EXISTS (SELECT FROM leads AS kept WHERE kept.id = told.lead_id) LIMIT %s)
"""
PENDING = "SELECT count(*) FROM lead_outbox WHERE relayed_at IS NULL"


@dataclass(frozen=True)
class Announcement:
    """A version to relay; `document` is the lead's row as JSON, and may be a newer version already."""

    seq: int
    tenant_id: str
    idempotency_key: str
    document: str


class OutboxReader:
    """The outbox of leads, as its one relay sees it."""

    def __init__(self, settings: Settings, query: str, patience: timedelta = PATIENCE) -> None:
        self._link = Link(writer_conninfo(settings.postgres, query, SESSION), "lead_outbox")
        self._patience = patience
        self._looked_at = {"gone": -LOOKS_EVERY_S, "pending": -LOOKS_EVERY_S}
        self._pending = 0

    def check(self) -> None:
        """Raise SetupError when the table is not there."""
        with self._link() as connection:
            found = connection.execute("SELECT to_regclass('public.lead_outbox') IS NOT NULL").fetchone()
        if found != (True,):
            raise SetupError("PostgreSQL lacks the table lead_outbox: run `python -m jobs migrate`")

    def due(self, limit: int) -> list[Announcement]:
        """What is not relayed yet and can be, oldest first."""
        with self._link() as connection:
            return [Announcement(*row) for row in connection.execute(DUE, (limit,)).fetchall()]

    def mark(self, seqs: list[int]) -> None:
        """They were acknowledged."""
        with self._link() as connection:
            connection.execute(MARK, (seqs,))

    def forget_relayed(self) -> None:
        """Have everything relayed again. Cut off, it is done again: what has been forgotten stays so.

        A transaction for each piece, because the outbox may be longer than a statement's time. What is
        entered meanwhile is not relayed yet anyway.
        """
        with self._link() as connection:
            ((first, last),) = connection.execute(ENDS).fetchall()
            for start in range(first, last + 1, ROWS_AT_ONCE):
                connection.execute(FORGET, (start, start + ROWS_AT_ONCE - 1))

    def drop_gone(self) -> int:
        """Give up rows whose lead was erased: how many. Looks now and then, and notes which leads it misses.

        A look changes so many rows and leaves the rest to the next one.
        """
        if not self._is_time("gone"):
            return 0
        with self._link() as connection:
            connection.execute(BACK, (ROWS_AT_ONCE,))
            connection.execute(MISSING, (ROWS_AT_ONCE,))
            return connection.execute(GONE, (self._patience, ROWS_AT_ONCE)).rowcount

    def pending(self) -> int:
        """How many rows wait, as of the last look."""
        if self._is_time("pending"):
            with self._link() as connection:
                found = connection.execute(PENDING).fetchone()
            self._pending = found[0] if found else 0
        return self._pending

    def close(self) -> None:
        """Give back the connection."""
        self._link.close()

    def _is_time(self, look: str) -> bool:
        due = monotonic() - self._looked_at[look] >= LOOKS_EVERY_S
        if due:
            self._looked_at[look] = monotonic()
        return due
