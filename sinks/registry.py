"""Which systems a domain is delivered to. Adding a sink is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from headwater.settings import Settings, Triggers
from schemas.contract import domain_contracts
from schemas.tables import DEAD_LETTERS, LEADS, Table
from sinks.base import Sink
from sinks.elasticsearch import ElasticsearchSink
from sinks.kafka import KafkaSink, event_messages, letter_messages
from sinks.outbox import LEAD_OUTBOX
from sinks.postgres import PostgresSink


@dataclass(frozen=True)
class Destination:
    """A table and where its new rows go. `make` is given settings and the query's name; `pace` says which
    trigger is its own, in seconds."""

    table: Table
    make: Callable[[Settings, str], Sink]
    pace: Callable[[Triggers], float] = attrgetter("deliver_s")


_PUBLISHED = attrgetter("publish_s")


def _normalized(settings: Settings, query: str) -> Sink:
    return KafkaSink(
        settings, query, "lead.normalized", event_messages(["idempotency_key"], ["metadata", "extras"])
    )


def _letters(topic: str, *streams: str) -> Callable[[Settings, str], Sink]:
    return lambda settings, query: KafkaSink(settings, query, topic, letter_messages(streams))


def _streams(domain: str) -> list[str]:
    return [contract.stream for contract in domain_contracts(domain).values()]


# (domain, system) → what is delivered, by what
SINKS: dict[tuple[str, str], Destination] = {
    ("leads", "postgres"): Destination(
        LEADS, lambda settings, query: PostgresSink(settings, query=query, outbox=LEAD_OUTBOX)
    ),
    ("leads", "elasticsearch"): Destination(
        LEADS, lambda settings, query: ElasticsearchSink(settings, query=query)
    ),
    ("leads", "normalized"): Destination(LEADS, _normalized, _PUBLISHED),
    ("leads", "dlq"): Destination(DEAD_LETTERS, _letters("lead.dlq", *_streams("leads")), _PUBLISHED),
    ("interactions", "dlq"): Destination(
        DEAD_LETTERS, _letters("interactions.dlq", *_streams("interactions")), _PUBLISHED
    ),
    ("uploads", "dlq"): Destination(DEAD_LETTERS, _letters("uploads.dlq", "uploads"), _PUBLISHED),
}
