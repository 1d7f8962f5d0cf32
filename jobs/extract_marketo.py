"""extract.marketo: activities of leads in Marketo → topic marketo.leads.delta, keyed by tenant and event id.

A page is fetched, produced and acknowledged as a whole; then the position moves, in PostgreSQL. Safe to run
again because a page that was produced without that comes once more with the same event ids, and refine drops
them as duplicates.
"""

from collections.abc import Mapping
from datetime import timedelta

from headwater.clock import iso
from headwater.errors import SetupError
from headwater.failpoints import fail_at
from headwater.kafka import check_topic
from headwater.log import logger
from headwater.metrics import EVENTS
from headwater.producer import Record, WaitingProducer
from jobs.queries import Context
from schemas.topics import MAX_MESSAGE_BYTES
from sources.marketo.answers import Document, RefusedParameterError
from sources.marketo.client import FEEDS, Client, Page
from sources.marketo.events import event, key, lead_id, moment, value
from sources.marketo.positions import Position, Positions

TOPIC = "marketo.leads.delta"
ACKNOWLEDGED_WITHIN_S = 30.0
# So far before the newest activity a feed begins again when its paging token is lost: Marketo records some
# activities later than they happened, and a token by time counts whole seconds. What comes twice is dropped.
OVERLAP = timedelta(hours=1)
_log = logger(__name__)


class ExtractMarketo:
    """Takes each feed's pages until there are no more, then looks again every `marketo.every_s`."""

    name = "extract.marketo"

    def __init__(self, context: Context, topic: str = TOPIC, client: Client | None = None) -> None:
        """Raises SetupError naming the setting that is missing or wrong."""
        self._context, self._marketo, self._topic = context, context.settings.marketo, topic
        self.every_s = self._marketo.every_s
        self._client = client or Client(self._marketo)
        self._account_id = self._marketo.account_id or ""
        self._positions = Positions(context.settings, self._account_id, self.name)
        self._producer = WaitingProducer(
            context.settings, "headwater-marketo", ACKNOWLEDGED_WITHIN_S, MAX_MESSAGE_BYTES
        )
        self._from_start_due = context.from_start
        self._open = list(FEEDS)

    def prepare(self) -> None:
        """Look for the topic; enter the feeds, and with --from-start begin them anew, once."""
        check_topic(self._context.settings, self._topic)
        since = self._marketo.since
        if self._from_start_due and since is None:
            raise SetupError("marketo.since is not set: it is where --from-start begins")
        self._positions.enter(FEEDS, since)
        if self._from_start_due and since is not None:
            self._positions.restart(since)
            self._from_start_due = False

    def step(self) -> int:
        """A page of each feed that has any left; how many feeds have more."""
        left = [feed for feed in self._open if self._take(feed)]
        self._open = left or list(FEEDS)
        return len(left)

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()
        self._positions.close()
        self._producer.close()

    def _take(self, feed: str) -> bool:
        """One page, to its commit; whether there are more."""
        position = self._positions.find(feed)
        page = self._page(position)
        ids = {lead_id(one) for one in page.activities} if feed == "changes" else set()
        leads = self._client.leads(sorted(ids - {0}))
        events = self._events(feed, page, leads)
        fail_at(self.name, "before_write")
        self._producer.send(self._topic, (Record(key(made), value(made)) for made in events))
        self._context.totals.add(rows_in=len(page.activities), rows_out=len(events))
        EVENTS.labels(self.name, TOPIC, "delivered").inc(len(events))
        fail_at(self.name, "before_commit")
        newest = max([position.since, *filter(None, map(moment, page.activities))])
        if page.next_page_token is not None:  # else this one is looked at again
            self._positions.move(position, page.next_page_token, newest)
        _log.info(
            "page", query=self.name, feed=feed, activities=len(page.activities), events=len(events),
            leads=len(leads), position=iso(newest), more=page.more,
        )  # fmt: skip
        return page.more

    def _page(self, position: Position) -> Page:
        """The next one. Where its token is not valid any more, the first one after the time that we know."""
        feed, token, since = position.feed, position.next_page_token, position.since
        if token is not None:
            try:
                return self._client.page(feed, token)
            except RefusedParameterError:
                since -= OVERLAP
                _log.warning("paging_token_lost", query=self.name, feed=feed, again_from=iso(since))
        return self._client.page(feed, self._client.paging_token(since))

    def _events(self, feed: str, page: Page, leads: Mapping[int, Document]) -> list[Document]:
        made = (
            event(self._account_id, feed, one, leads.get(lead_id(one)), self._marketo.fields)
            for one in page.activities
        )
        return [one for one in made if one is not None]
