"""public.marketo_positions: up to where each feed of an account's Marketo has reached Kafka."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from headwater.errors import LostError
from headwater.postgres import Link, writer_conninfo
from headwater.settings import Settings

SESSION = "-c timezone=UTC -c lock_timeout=30s -c statement_timeout=60s"
ENTER = """
INSERT INTO marketo_positions (account_id, feed, since)
SELECT %s, feed, coalesce(%s, now()) FROM unnest(%s::text[]) AS feed ON CONFLICT DO NOTHING
"""
RESTART = """
UPDATE marketo_positions SET next_page_token = NULL, since = %s, updated_at = now() WHERE account_id = %s
"""
FIND = "SELECT since, next_page_token FROM marketo_positions WHERE account_id = %s AND feed = %s"
# From where it was read only: a person may have set it back in between.
MOVE = """
UPDATE marketo_positions
SET next_page_token = %s, since = greatest(since, least(%s, now())), updated_at = now()
WHERE account_id = %s AND feed = %s AND since = %s AND next_page_token IS NOT DISTINCT FROM %s
"""


@dataclass(frozen=True)
class Position:
    """Where the next page is. Without a token: at what happened after `since`, as it is before the first.

    `since` is the newest activity that was read, and where to look again should the token become invalid.
    """

    feed: str
    since: datetime
    next_page_token: str | None


class Positions:
    """Of one account. Faults are those of `Link`."""

    def __init__(self, settings: Settings, account_id: str, query: str) -> None:
        self._link = Link(writer_conninfo(settings.postgres, query, SESSION), "marketo_positions")
        self._account_id = account_id

    def enter(self, feeds: Iterable[str], since: datetime | None) -> None:
        """Begin feeds that are new at `since`, by default now."""
        with self._link() as connection:
            connection.execute(ENTER, (self._account_id, since, list(feeds)))

    def restart(self, since: datetime) -> None:
        """Begin all feeds anew at `since`."""
        with self._link() as connection:
            connection.execute(RESTART, (since, self._account_id))

    def find(self, feed: str) -> Position:
        """Where a feed is that was entered. Raises LostError when somebody has deleted it."""
        with self._link() as connection:
            found = connection.execute(FIND, (self._account_id, feed)).fetchone()
        if found is None:
            raise LostError(f"the position of {feed} is gone from marketo_positions")
        return Position(feed, *found)

    def move(self, old: Position, next_page_token: str, newest: datetime) -> None:
        """A page has reached Kafka. Raises LostError when the position is not `old` any more."""
        new = (next_page_token, newest, self._account_id)
        with self._link() as connection:
            moved = connection.execute(MOVE, (*new, old.feed, old.since, old.next_page_token)).rowcount
        if not moved:
            raise LostError(f"the position of {old.feed} was changed meanwhile; start again to go on from it")

    def close(self) -> None:
        """Give back the connection."""
        self._link.close()
