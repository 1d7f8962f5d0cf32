"""Which systems a domain is delivered to. Adding a sink is a file and a line here."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from headwater.settings import Settings, Triggers
from schemas.contract import domain_contracts
from schemas.gold import BILLING_USAGE, SESSION_KPIS
from schemas.tables import (
    AGENT_SESSIONS,
    AGENT_TURNS,
    CRM_CONTACTS,
    CRM_LEADS,
    CRM_OPPORTUNITIES,
    DEAD_LETTERS,
    FRONTEND_INTERACTIONS,
    LEADS,
    Table,
)
from sinks import postgres_tables
from sinks.base import Sink
from sinks.elasticsearch import ElasticsearchSink
from sinks.kafka import KafkaSink, event_messages, letter_messages
from sinks.outbox import LEAD_OUTBOX, Outbox
from sinks.postgres import PostgresSink
from sinks.postgres_events import EventsSink
from sinks.postgres_tables import PostgresTable
from sinks.redis import METRICS, STATE, RedisSink


@dataclass(frozen=True)
class Route:
    """A table and where its new rows go. `make` is given settings and the query's name. Of a gold table,
    whose rows are replaced, `key` says which are versions of one. `here`: the sink takes rows that are on the
    driver, too."""

    table: Table
    make: Callable[[Settings, str], Sink]
    key: tuple[str, ...] = ()
    here: bool = False


@dataclass(frozen=True)
class Destination:
    """A system, and what it gets by one query; `pace` says which trigger is its own, in seconds."""

    routes: tuple[Route, ...]
    pace: Callable[[Triggers], float] = attrgetter("deliver_s")


def _normalized(settings: Settings, query: str) -> Sink:
    return KafkaSink(
        settings, query, "lead.normalized", event_messages(["idempotency_key"], ["metadata", "extras"])
    )


def _letters(topic: str, *streams: str) -> Destination:
    def make(settings: Settings, query: str) -> Sink:
        return KafkaSink(settings, query, topic, letter_messages(streams))

    return Destination((Route(DEAD_LETTERS, make),), attrgetter("publish_s"))


def _streams(domain: str) -> list[str]:
    return [contract.stream for contract in domain_contracts(domain).values()]


def _postgres(table: PostgresTable, outbox: Outbox | None = None) -> Callable[[Settings, str], Sink]:
    return lambda settings, query: PostgresSink(settings, query, table, outbox)


def _staged(table: PostgresTable) -> Callable[[Settings, str], Sink]:
    return lambda settings, query: EventsSink(settings, query, table)


_SESSION = ("tenant_id", "session_id")
_HOUR = ("tenant_id", "metric", "window_start")
# (domain, system) → what is delivered, by what
SINKS: dict[tuple[str, str], Destination] = {
    ("leads", "postgres"): Destination(
        (Route(LEADS, _postgres(postgres_tables.LEADS, LEAD_OUTBOX)),),
    ),
    ("leads", "elasticsearch"): Destination(
        (Route(LEADS, lambda settings, query: ElasticsearchSink(settings, query=query)),)
    ),
    ("leads", "normalized"): Destination((Route(LEADS, _normalized),), attrgetter("publish_s")),
    ("leads", "dlq"): _letters("lead.dlq", *_streams("leads")),
    ("interactions", "postgres"): Destination(
        (
            Route(AGENT_TURNS, _postgres(postgres_tables.AGENT_TURNS), here=True),
            Route(FRONTEND_INTERACTIONS, _postgres(postgres_tables.FRONTEND_ANALYTICS), here=True),
            Route(SESSION_KPIS, _postgres(postgres_tables.SESSION_KPIS), _SESSION, here=True),
            Route(BILLING_USAGE, _postgres(postgres_tables.BILLING_USAGE), _HOUR, here=True),
        )
    ),
    ("interactions", "redis"): Destination(
        (
            Route(AGENT_SESSIONS, lambda settings, query: RedisSink(settings, query, STATE), here=True),
            Route(
                SESSION_KPIS,
                lambda settings, query: RedisSink(settings, query, METRICS),
                _SESSION,
                here=True,
            ),
        )
    ),
    ("interactions", "dlq"): _letters("interactions.dlq", *_streams("interactions")),
    ("crm", "postgres"): Destination(
        (
            Route(CRM_LEADS, _staged(postgres_tables.CRM_LEADS), here=True),
            Route(CRM_CONTACTS, _staged(postgres_tables.CRM_CONTACTS), here=True),
            Route(CRM_OPPORTUNITIES, _staged(postgres_tables.CRM_OPPORTUNITIES), here=True),
        )
    ),
    ("crm", "dlq"): _letters("crm.dlq", *_streams("crm")),
    ("uploads", "dlq"): _letters("uploads.dlq", "uploads"),
}
