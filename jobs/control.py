"""What a person wants of a domain (analytics.domain_control) → the runtime, and what its works do → the API.

One thread asks PostgreSQL every second and tells it of each work of a domain every other. While PostgreSQL is
away the last word holds. Before its first word a controlled domain waits: who stopped it must find it stopped
after a restart.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

from headwater.errors import HeadwaterError
from headwater.log import logger
from headwater.postgres import Link, writer_conninfo
from headwater.settings import Settings
from jobs.faults import translate

CONTROLLED = frozenset({"crm"})
RUNNING, STOPPED = "running", "stopped"
READ_EVERY_S = 1.0
TELL_EVERY_S = 2.0
REMEDY = "bring PostgreSQL back; if it lacks the table, run `python -m jobs migrate`"
_ENDS_WITHIN_S = 5.0
_SESSION = "-c jit=off -c timezone=UTC -c synchronous_commit=off -c lock_timeout=2s -c statement_timeout=5s"
_READ = "SELECT domain, desired FROM analytics.domain_control"
_TELL = """
INSERT INTO analytics.query_states AS kept
  (query, domain, state, lag, last_batch_at, batch_ms_p95, updated_at)
VALUES (%(query)s, %(domain)s, %(state)s, %(lag)s, %(last_batch_at)s, %(batch_ms_p95)s, now())
ON CONFLICT (query) DO UPDATE SET domain = excluded.domain, state = excluded.state, lag = excluded.lag,
  last_batch_at = coalesce(excluded.last_batch_at, kept.last_batch_at),
  batch_ms_p95 = coalesce(excluded.batch_ms_p95, kept.batch_ms_p95), updated_at = excluded.updated_at
"""
_log = logger(__name__)


@dataclass(frozen=True)
class Told:
    """What a work says of itself. `state`: starting, running, stopping, stopped, restarting (after a fault
    that passes) or failed (a person must mend something)."""

    query: str
    domain: str
    state: str
    lag: int | None = None
    last_batch_at: datetime | None = None
    batch_ms_p95: float | None = None


class Wishes(Protocol):
    """Where desired states are read and works are told of. Faults are HeadwaterErrors."""

    def read(self) -> dict[str, str]:
        """Domain → running or stopped."""
        ...

    def tell(self, works: Sequence[Told]) -> None:
        """Keep what these works say."""

    def close(self) -> None:
        """Give back the connection; the next use makes another."""


class ControlTables:
    """Wishes in PostgreSQL's schema analytics."""

    def __init__(self, settings: Settings) -> None:
        conninfo = writer_conninfo(settings.postgres, "headwater control", _SESSION)
        self._link = Link(conninfo, "analytics.domain_control")

    def read(self) -> dict[str, str]:
        with self._link() as connection:
            return dict(connection.execute(_READ).fetchall())

    def tell(self, works: Sequence[Told]) -> None:
        with self._link() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(_TELL, [asdict(told) for told in works])

    def close(self) -> None:
        self._link.close()


class Control:
    """Knows what is wanted, as of a second ago. `wants` may be asked by any thread."""

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._desired: dict[str, str] | None = None
        self._quiet = False
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def wants(self, domain: str | None) -> bool:
        """Whether works of this domain are to run; those of a domain that nobody controls always are."""
        if domain not in CONTROLLED:
            return True
        desired = self._desired
        # A row that is missing was never stopped.
        return desired is not None and desired.get(domain, RUNNING) == RUNNING

    def look(self) -> None:
        """Ask once. Raises a HeadwaterError when there is no answer."""
        try:
            self._desired = self._wishes.read()
        finally:
            self._wishes.close()

    def start(self, works: Callable[[], Sequence[Told]]) -> None:
        """Follow what is wanted, and tell of `works`, which must wait for nothing."""
        self._ending.clear()
        self._thread = threading.Thread(target=self._follow, args=(works,), name="control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Tell of the works a last time. Does not wait for long."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(_ENDS_WITHIN_S)

    def _follow(self, works: Callable[[], Sequence[Told]]) -> None:
        told_at = float("-inf")
        while not self._ending.is_set():
            due = time.monotonic() - told_at >= TELL_EVERY_S
            if self._exchange(works() if due else ()) and due:
                told_at = time.monotonic()
            self._ending.wait(READ_EVERY_S)
        self._exchange(works())
        self._wishes.close()

    def _exchange(self, told: Sequence[Told]) -> bool:
        """Read, and tell; whether it went well. A silence is logged once, and so is its end."""
        try:
            self._desired = self._wishes.read()
            if told:
                self._wishes.tell(told)
        except Exception as fault:  # a thread that ended would follow nothing any more
            if not self._quiet:
                ours = translate(fault) or HeadwaterError(type(fault).__name__)
                holds = "the last word holds" if self._desired is not None else "controlled domains wait"
                _log.warning("control_unknown", why=str(ours), meanwhile=holds, remedy=REMEDY)
            self._quiet = True
            return False
        if self._quiet:
            _log.info("control_known_again", desired=self._desired)
        self._quiet = False
        return True
