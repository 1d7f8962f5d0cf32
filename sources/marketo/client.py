"""Marketo as the extractor sees it: paging tokens, pages of activities, current values of leads.

Each call keeps to Marketo's pace, has a valid access token, and is tried again while something passes.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from headwater.errors import SetupError, TransientError
from headwater.log import logger
from headwater.metrics import MARKETO_CALLS
from headwater.retry import retrying
from headwater.settings import Marketo
from sources.marketo.answers import (
    Document,
    Judged,
    StaleTokenError,
    TooLargeError,
    judge,
    judge_login,
    unreadable,
)
from sources.marketo.events import LEAD_FIELDS
from sources.marketo.pace import Pace
from sources.marketo.transport import Transport, checked_base

FEEDS = {
    "changes": "/rest/v1/activities/leadchanges.json",
    "deletions": "/rest/v1/activities/deletedleads.json",
}
LEADS_AT_ONCE = 300
PATIENCE_S = 60.0
_LOGIN = "/identity/oauth/token"
_log = logger(__name__)


@dataclass(frozen=True)
class Page:
    """Up to 300 activities, the token of the next page (None: it was not said), whether that has any now."""

    activities: list[Document]
    next_page_token: str | None
    more: bool


class Client:
    """One instance of Marketo. All from one thread."""

    def __init__(self, marketo: Marketo, pace: Pace | None = None) -> None:
        """Raises SetupError naming the setting that is missing or wrong."""
        for key in ("base_url", "client_id", "client_secret", "account_id"):
            if not getattr(marketo, key):
                raise SetupError(f"marketo.{key} is not set")
        self._marketo = marketo
        self._fields = ",".join(dict.fromkeys([*LEAD_FIELDS.values(), *marketo.fields]))
        self._transport = Transport(
            checked_base(marketo.base_url or "", marketo.plain_hosts), marketo.timeout_s
        )
        self._pace = pace or Pace(marketo.max_calls)
        self._token: str | None = None
        self._token_ends = 0.0

    def paging_token(self, since: datetime) -> str:
        """The place in every feed of what happened after that second."""
        text = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        document = self._call("paging_token", "/rest/v1/activities/pagingtoken.json", {"sinceDatetime": text})
        token = document.get("nextPageToken")
        if not isinstance(token, str) or not token:
            raise unreadable("paging_token")
        return token

    def page(self, feed: str, token: str) -> Page:
        """A page of a feed. Raises RefusedParameterError when the token is not valid (any more)."""
        fields = {"fields": self._fields} if feed == "changes" else {}
        document = self._call(feed, FEEDS[feed], {"nextPageToken": token, **fields})
        found = Page(_rows(feed, document), document.get("nextPageToken"), bool(document.get("moreResult")))
        if not isinstance(found.next_page_token, str | None):
            raise unreadable(feed)
        if found.more and found.next_page_token in (None, token):
            raise TransientError(f"Marketo {feed}: there is more, but no way to it")
        return found

    def leads(self, ids: Sequence[int]) -> dict[int, Document]:
        """Current values by id; a lead that is gone is not among them."""
        found: dict[int, Document] = {}
        for first in range(0, len(ids), LEADS_AT_ONCE):
            found |= self._leads(ids[first : first + LEADS_AT_ONCE])
        return found

    def close(self) -> None:
        """Give back the connection; any call may follow."""
        self._transport.close()

    def _leads(self, ids: Sequence[int]) -> dict[int, Document]:
        query = {"filterType": "id", "filterValues": ",".join(map(str, ids)), "fields": f"id,{self._fields}"}
        try:
            document = self._call("leads", "/rest/v1/leads.json", query)
        except TooLargeError:
            if len(ids) == 1:
                raise
            half = len(ids) // 2
            return self._leads(ids[:half]) | self._leads(ids[half:])
        return {row["id"]: row for row in _rows("leads", document) if isinstance(row.get("id"), int)}

    def _call(self, call: str, path: str, query: Mapping[str, str]) -> Document:
        return retrying(lambda: self._with_token(call, path, query), f"marketo {call}", PATIENCE_S)

    def _with_token(self, call: str, path: str, query: Mapping[str, str]) -> Document:
        try:
            return self._ask(call, path, query)
        except StaleTokenError:
            self._token = None
        try:
            return self._ask(call, path, query)
        except StaleTokenError as fault:
            self._token = None
            if fault.expired:
                raise TransientError(f"Marketo {call}: a new access token has expired already") from None
            raise SetupError(
                f"Marketo {call}: it does not take the access token that it has just given;"
                " check marketo.base_url and the custom service"
            ) from None

    def _ask(self, call: str, path: str, query: Mapping[str, str]) -> Document:
        token = self._access_token()
        with self._pace.turn():
            answer = self._transport.get(path, query, {"Authorization": f"Bearer {token}"})
        return _counted(call, judge(call, answer))

    def _access_token(self) -> str:
        """The one that we have, until its time is over or Marketo says so."""
        if self._token is None or time.monotonic() >= self._token_ends:
            secret = self._marketo.client_secret
            query = {
                "grant_type": "client_credentials",
                "client_id": self._marketo.client_id or "",
                "client_secret": secret.get_secret_value() if secret else "",
            }
            with self._pace.turn():
                answer = self._transport.get(_LOGIN, query, {})
            document = _counted("login", judge_login(answer))
            self._token = str(document["access_token"])
            self._token_ends = time.monotonic() + document["expires_in"]
        return self._token


def _counted(call: str, judged: Judged) -> Document:
    MARKETO_CALLS.labels(call, judged.outcome).inc()
    if judged.fault is not None:
        _log.warning("call_failed", call=call, outcome=judged.outcome)
        raise judged.fault
    return judged.document


def _rows(call: str, document: Document) -> list[Document]:
    """`result`, which Marketo leaves out where there is none."""
    rows: Any = document.get("result") or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise unreadable(call)
    return rows
