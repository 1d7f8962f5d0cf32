"""What the tests of the extractor do with it and with Marketo."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from headwater.settings import Settings
from jobs.extract_marketo import ExtractMarketo
from sources.marketo.positions import Positions
from tests.integration.marketo_server import MarketoServer

Make = Callable[..., ExtractMarketo]
Events = Callable[[], list[dict[str, Any]]]


def run(extractor: ExtractMarketo) -> None:
    """Until there is no more."""
    while extractor.step():
        pass


def ids(events: Events) -> list[str]:
    """Event ids, sorted, each as often as it is there."""
    return sorted(one["event_id"] for one in events())


def history(server: MarketoServer, leads: int = 10) -> None:
    """Each lead is created; every other one changes, every fifth one is deleted."""
    for number in range(1, leads + 1):
        server.create(number)
    for number in range(1, leads + 1, 2):
        server.change(number, company=f"Company {number}")
    for number in range(1, leads + 1, 5):
        server.delete(number)


def position(settings: Settings, feed: str) -> tuple[datetime, str | None]:
    """Of a feed of the account, as PostgreSQL has it: time and token."""
    positions = Positions(settings, settings.marketo.account_id or "", "test")
    found = positions.find(feed)
    positions.close()
    return found.since, found.next_page_token
