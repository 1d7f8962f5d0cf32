"""Rows that a destination has refused → that destination, once more, and no other.

silver and gold → a sink's own upsert, by the place of the record. Safe to run again: sinks take a row twice.
A connector's events are made due; the running job posts them.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

from headwater.errors import SetupError
from headwater.log import logger
from headwater.offsets import Span, merged, within
from headwater.tables import read_table
from jobs.queries import Context
from jobs.replay_letters import Back
from schemas.tables import SOURCE
from sinks.registry import SINKS
from sinks.webhook.overview import Overview, Wanted

CONNECTOR = "webhook-"
_AT_ONCE = 500
_log = logger(__name__)


def redeliver(context: Context, back: Iterable[Back]) -> set[str]:
    """The letters whose rows are refused again."""
    refused: set[str] = set()
    for destination, group in groupby(sorted(back, key=_order), key=lambda one: one.destination):
        while some := list(islice(group, _AT_ONCE)):
            again = _post(context, some) if some[0].system.startswith(CONNECTOR) else _write(context, some)
            _log.info("sent_back", destination=destination, rows=len(some), refused=len(again))
            refused |= again
    return refused


def _order(one: Back) -> tuple[str, str]:
    return one.destination, one.letter_id


def _write(context: Context, some: Sequence[Back]) -> set[str]:
    """By the tables that the destination is fed by: rows of these places, of whichever table they are."""
    domain, system = some[0].contract.domain, some[0].system
    if (domain, system) not in SINKS:
        raise SetupError(f"there is no destination {domain}.{system} any more: discard its letters")
    spans = merged(Span(topic, partition, offset, offset) for topic, partition, offset in _places(some))
    refused: set[tuple[str, int, int]] = set()
    for route in SINKS[domain, system].routes:
        sink = route.make(context.settings, f"deliver.{domain}.{system}")
        sink.setup()
        rows = read_table(context.spark, context.settings, route.table.full_name).where(
            within(spans, *SOURCE)
        )
        written = sink.write(rows)
        refused |= {(one.source_topic, one.source_partition, one.source_offset) for one in written.rejected}
    return {one.letter_id for one in some if one.place in refused}


def _places(some: Iterable[Back]) -> Iterator[tuple[str, int, int]]:
    for one in some:
        yield one.place


def _post(context: Context, some: Sequence[Back]) -> set[str]:
    events = tuple((one.tenant_id or "", one.event_id or "") for one in some)
    name = some[0].system.removeprefix(CONNECTOR)
    Overview(context.settings).retry(Wanted(connector=name, events=events))
    return set()
