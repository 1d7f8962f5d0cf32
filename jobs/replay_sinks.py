"""Rows that a destination has refused → that destination, once more, and no other.

silver and gold → a sink's own upsert, by the place of the record. Safe to run again: sinks take a row twice.
A connector's events are made due, and the running job posts them. Their letters are `replayed` before that:
a connector that refuses at once makes them new again, which nothing later may hide.
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
from sources.letters.settle import sent_again

_AT_ONCE = 500
_log = logger(__name__)


def refuse_lost(context: Context, back: Iterable[Back]) -> None:
    """Raises SetupError where a destination is there no more, or a connector knows nothing of an event."""
    for destination, some in _parts(back):
        name = some[0].connector
        known = name in context.settings.connectors if name else _key(some) in SINKS
        if not known:
            raise SetupError(f"there is no destination {destination} any more: discard its letters")
        lost = _unknown(context, some) if name else []
        if lost:
            raise SetupError(
                f"{destination} has no delivery of {len(lost)} of the {len(some)} letters: "
                f"{', '.join(lost[:5])}: discard them"
            )


def redeliver(context: Context, back: Iterable[Back]) -> set[str]:
    """The letters whose rows are refused again."""
    refused: set[str] = set()
    for destination, some in _parts(back):
        if some[0].connector:
            _post(context, some)
            continue
        again = _write(context, some)
        _log.info("sent_back", destination=destination, rows=len(some), refused=len(again))
        refused |= again
    return refused


def _parts(back: Iterable[Back]) -> Iterator[tuple[str, list[Back]]]:
    """So many of one destination at a time."""
    for destination, group in groupby(sorted(back, key=_order), key=lambda one: one.destination):
        while some := list(islice(group, _AT_ONCE)):
            yield destination, some


def _order(one: Back) -> tuple[str, str]:
    return one.destination, one.letter_id


def _write(context: Context, some: Sequence[Back]) -> set[str]:
    """By the tables that the destination is fed by: rows of these places, of whichever table they are."""
    domain, system = _key(some)
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


def _key(some: Sequence[Back]) -> tuple[str, str]:
    return some[0].contract.domain, some[0].system


def _post(context: Context, some: Sequence[Back]) -> None:
    """Cut off in between, the letters are `replayed` and nothing is due: whoever resumes comes here again."""
    sent_again(context.settings, [one.letter_id for one in some])
    due = Overview(context.settings).retry(_deliveries(some))
    delivered = len(some) - due
    _log.info("made_due", destination=some[0].destination, rows=due, delivered=delivered)


def _unknown(context: Context, some: Sequence[Back]) -> list[str]:
    """The letters of whose event the connector has no delivery."""
    entered = Overview(context.settings).entered(_deliveries(some))
    return [one.letter_id for one in some if _event(one) not in entered]


def _deliveries(some: Sequence[Back]) -> Wanted:
    return Wanted(connector=some[0].connector, events=tuple(map(_event, some)))


def _event(one: Back) -> tuple[str, str]:
    return one.tenant_id or "", one.event_id or ""
