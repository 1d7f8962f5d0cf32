"""analytics.replays: what is asked to be sent again, as whoever plans and does it sees it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from headwater.errors import SetupError
from headwater.postgres import Link, writer_conninfo
from headwater.settings import Settings
from schemas.patch import MAX_BYTES, Patch, read_patch
from sources.letters.wanted import Wanted, moment

_SESSION = "-c jit=off -c timezone=UTC -c lock_timeout=5s -c statement_timeout=30s"
_THERE = "SELECT to_regclass('analytics.replays') IS NOT NULL"
_COLUMNS = "replay_id, tenant_id, status, wanted, patch::text, digest, letters, starts, result, error"
_ASK = """
INSERT INTO analytics.replays (replay_id, tenant_id, author, why, wanted, patch, patch_sha256)
VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s)
"""
_DUE = f"""
SELECT {_COLUMNS} FROM analytics.replays
WHERE status IN ('requested', 'approved') AND replay_id <> ALL(%s::uuid[])
ORDER BY created_at LIMIT %s
"""  # noqa: S608 - a list of names
_FIND = f"SELECT {_COLUMNS} FROM analytics.replays WHERE replay_id = %s"  # noqa: S608 - as above
_PLANNED = """
UPDATE analytics.replays SET status = 'planned', plan = %s, digest = %s, planned_at = now()
WHERE replay_id = %s AND status = 'requested'
"""
_APPROVED = """
UPDATE analytics.replays SET status = 'approved', approved_by = %s, approved_at = now(),
  why = CASE WHEN why = '' THEN %s ELSE why END
WHERE replay_id = %s AND status = 'planned'
"""
_BEGUN = "UPDATE analytics.replays SET letters = %s, starts = %s WHERE replay_id = %s AND status = 'approved'"
_APPLIED = """
UPDATE analytics.replays SET status = 'applied', result = %s, ended_at = now()
WHERE replay_id = %s AND status = 'approved'
"""
_ENDED = """
UPDATE analytics.replays SET status = %s, error = %s, ended_at = now()
WHERE replay_id = %s AND status IN ('requested', 'planned', 'approved')
"""


@dataclass(frozen=True)
class Replay:
    """A row. `digest` is of all that its plan depends on; `letters`, once its sending has begun, are the ids
    of those that are sent, and `starts` the end of each topic-partition before the first."""

    replay_id: UUID
    tenant_id: str | None
    status: str
    wanted: Wanted
    patch_text: str | None
    digest: str | None
    letters: tuple[str, ...] | None
    starts: dict[str, int] | None
    result: dict[str, Any] | None
    error: str | None

    @property
    def patch(self) -> Patch | None:
        """Raises SetupError for one that is too long as PostgreSQL has it: with blanks between its parts, and
        numbers written out. Not while rows are read: it is a fault of this replay alone."""
        return read_patch(self.patch_text.encode(), 2 * MAX_BYTES) if self.patch_text else None


class Replays:
    """The table; every change is made once, whoever asks for it twice."""

    def __init__(self, settings: Settings, query: str) -> None:
        self._link = Link(writer_conninfo(settings.postgres, query, _SESSION), "replays")

    def check(self) -> None:
        """Raise SetupError when the table is not there."""
        with self._link() as connection:
            found = connection.execute(_THERE).fetchone()
        if found != (True,):
            raise SetupError("PostgreSQL lacks analytics.replays: run `python -m jobs migrate`")

    def ask(self, replay_id: UUID, wanted: Wanted, patch: Patch | None, author: str, why: str) -> None:
        """Enter what somebody asks for."""
        mended = (patch.text, patch.sha256) if patch else (None, None)
        row = (replay_id, wanted.tenant, author, why, Jsonb(wanted.given), *mended)
        with self._link() as connection:
            connection.execute(_ASK, row)

    def due(self, limit: int, besides: Collection[UUID] = ()) -> list[Replay]:
        """Those to be planned, and those to be done, the oldest first, without those that are named."""
        with self._link() as connection:
            return [_replay(row) for row in connection.execute(_DUE, (list(besides), limit)).fetchall()]

    def find(self, replay_id: UUID) -> Replay:
        """Raises SetupError for one that is not there."""
        with self._link() as connection:
            row = connection.execute(_FIND, (replay_id,)).fetchone()
        if row is None:
            raise SetupError(f"there is no replay {replay_id}: its number is told when it is planned")
        return _replay(row)

    def planned(self, replay_id: UUID, plan: Mapping[str, Any], digest: str) -> None:
        """It is known what would come of it."""
        self._change(_PLANNED, Jsonb(plan), digest, replay_id)

    def approve(self, replay_id: UUID, author: str, why: str) -> None:
        """Somebody wants it done. `why` is kept where none was given when it was asked for."""
        self._change(_APPROVED, author, why, replay_id)

    def begun(self, replay_id: UUID, letters: Sequence[str], starts: Mapping[str, int]) -> None:
        """From here on records of it may be in Kafka."""
        self._change(_BEGUN, Jsonb(list(letters)), Jsonb(dict(starts)), replay_id)

    def applied(self, replay_id: UUID, result: Mapping[str, Any]) -> None:
        """All of it was sent, and its letters say so."""
        self._change(_APPLIED, Jsonb(result), replay_id)

    def refused(self, replay_id: UUID, why: str) -> None:
        """The data has moved since it was planned: nothing was sent."""
        self._change(_ENDED, "refused", why, replay_id)

    def failed(self, replay_id: UUID, why: str) -> None:
        """It cannot be planned or done until somebody mends something."""
        self._change(_ENDED, "failed", why, replay_id)

    def close(self) -> None:
        """Give back the connection."""
        self._link.close()

    def _change(self, statement: str, *values: Any) -> None:
        with self._link() as connection:
            connection.execute(statement, values)


def _replay(row: tuple[Any, ...]) -> Replay:
    found = dict(zip((field.name for field in fields(Replay)), row, strict=True))
    letters = found["letters"]
    found["wanted"] = wanted_of(found["wanted"])
    found["letters"] = None if letters is None else tuple(letters)
    return Replay(**found)


def wanted_of(given: Mapping[str, Any]) -> Wanted:
    """What `Wanted.given` says, read back."""
    times = {name: moment(given[name]) for name in ("since", "until") if name in given}
    return Wanted(**{**given, **times, "ids": tuple(given.get("ids", ()))})
