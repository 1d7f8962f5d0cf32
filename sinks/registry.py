"""Which systems a domain is delivered to. Adding a sink is a file and a line here."""

from collections.abc import Callable

from headwater.settings import Settings
from sinks.base import Sink
from sinks.elasticsearch import ElasticsearchSink
from sinks.outbox import LEAD_OUTBOX
from sinks.postgres import PostgresSink

# (domain, system) → (silver table, settings and query name → the sink)
SINKS: dict[tuple[str, str], tuple[str, Callable[[Settings, str], Sink]]] = {
    ("leads", "postgres"): (
        "silver.leads",
        lambda settings, query: PostgresSink(settings, query=query, outbox=LEAD_OUTBOX),
    ),
    ("leads", "elasticsearch"): (
        "silver.leads",
        lambda settings, query: ElasticsearchSink(settings, query=query),
    ),
}
