"""public.lead_outbox → whoever relays it: what is not relayed yet, oldest first, with the lead's row.

By `relayed_at`, not by a remembered position. A row waits while `leads` does not hold its version: a rebuild
may be filling the table. One whose lead does not come back within the patience belongs to an erased lead.
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
# Numbers of the outbox to a statement, which has 60 s: 200,000 take 3.5 s, more when all is large.
FORGOTTEN_AT_ONCE = 20_000

DUE = """
SELECT told.seq, told.tenant_id, kept.idempotency_key, to_json(kept)::text
FROM lead_outbox AS told JOIN leads AS kept ON kept.id = told.lead_id AND kept.row_version >= told.row_version
WHERE told.relayed_at IS NULL ORDER BY told.seq LIMIT %s
"""
MARK = "UPDATE lead_outbox SET relayed_at = now() WHERE seq = ANY(%s) AND relayed_at IS NULL"
ENDS = "SELECT coalesce(min(seq), 1), coalesce(max(seq), 0) FROM lead_outbox"
FORGET = "UPDATE lead_outbox SET relayed_at = NULL WHERE seq BETWEEN %s AND %s AND relayed_at IS NOT NULL"
GONE = """
UPDATE lead_outbox AS told SET relayed_at = now()
WHERE relayed_at IS NULL AND created_at < now() - %s
  AND NOT EXISTS (SELECT FROM leads AS kept WHERE kept.id = told.lead_id)
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
            for start in range(first, last + 1, FORGOTTEN_AT_ONCE):
                connection.execute(FORGET, (start, start + FORGOTTEN_AT_ONCE - 1))

    def drop_gone(self) -> int:
        """Give up rows whose lead was erased: how many. Looks now and then."""
        if not self._is_time("gone"):
            return 0
        with self._link() as connection:
            return connection.execute(GONE, (self._patience,)).rowcount

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
