"""The race to Elasticsearch: a cached batch of leads by ElasticsearchSink, the same documents as dicts in
memory by the Python client's parallel_bulk.

Both write one index of the race's own, deleted and made anew before each turn: the same mapping, refresh and
shards. Both send 1,000 documents or 4 MiB a request with `external_gte` versions, and no field that is null.
Ours also asks Spark for rows and times, reads the index's counter before and after, and has the `_id` in the
document, where the connector looks for it. To make dicts of a batch is not in the peer's time.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from elasticsearch import Elasticsearch
from elasticsearch.helpers import parallel_bulk
from pyspark.sql import DataFrame

from headwater.identity import document_key
from headwater.settings import Settings, load_settings
from sinks.elasticsearch import DOC_KEY, ElasticsearchSink
from sinks.elasticsearch_bulk import REQUEST_TIMEOUT_S
from tests.perf.figures import OURS, Figure, interleaved, proven, rate
from tests.perf.peer_leads import cached_leads, plain

BULK = "parallel_bulk"
THREADS = 4
REQUEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Arena:
    """An index behind an alias, who makes it, and how many documents it has to have after a turn."""

    settings: Settings
    client: Elasticsearch
    sink: ElasticsearchSink
    alias: str
    rows: int

    def measured(self, work: Callable[[], int]) -> float:
        """One turn: documents a second. The index is counted in time that is not measured."""
        self.sink.reset()
        speed = rate(self.rows, work)
        self.client.indices.refresh(index=self.alias)
        proven(self.rows, int(self.client.count(index=self.alias)["count"]))
        return speed

    def bulk(self, actions: Sequence[dict[str, Any]]) -> int:
        """How many documents the helper says were taken."""
        answers = parallel_bulk(
            self.client,
            actions,
            thread_count=THREADS,
            chunk_size=self.settings.elasticsearch.batch_entries,
            max_chunk_bytes=REQUEST_BYTES,
        )
        return sum(taken for taken, _ in answers)

    def actions(self, leads: DataFrame) -> list[dict[str, Any]]:
        """What the helper is given: the documents that the sink writes, without the connector's `doc_key`."""
        mapping = self.client.indices.get_mapping(index=self.alias)
        (found,) = mapping.values()
        columns = [name for name in found["mappings"]["properties"] if name != DOC_KEY]
        return [self._action(document) for document in plain(leads, [*columns, "idempotency_key"])]

    def _action(self, document: dict[str, Any]) -> dict[str, Any]:
        key = document.pop("idempotency_key")
        source = {name: _said(value) for name, value in document.items() if value is not None}
        return {
            "_index": self.alias,
            "_id": document_key(document["tenant_id"], key),
            "version": document["row_version"],
            "version_type": "external_gte",
            "_source": source,
        }


def race(rows: int, rounds: int) -> list[Figure]:
    """Documents a second, until the server has answered for the last one."""
    with cached_leads(rows) as leads, _arena(rows) as arena:
        actions = arena.actions(leads)
        turns = {
            OURS: partial(arena.measured, lambda: arena.sink.write(leads).rows),
            BULK: partial(arena.measured, partial(arena.bulk, actions)),
        }
        found = interleaved(rounds, turns)
    return [Figure("elasticsearch", name, "rows/s", runs) for name, runs in found.items()]


@contextmanager
def _arena(rows: int) -> Iterator[Arena]:
    settings, name = load_settings("local"), f"bench-{uuid.uuid4().hex[:8]}"
    alias = f"{settings.elasticsearch.prefix}{name}"
    sink = ElasticsearchSink(settings, query="bench", alias=name)
    with Elasticsearch(settings.elasticsearch.url, request_timeout=REQUEST_TIMEOUT_S) as client:
        sink.setup()
        try:
            yield Arena(settings, client, sink, alias, rows)
        finally:
            client.indices.delete(index=f"{alias}-v1", ignore_unavailable=True)


def _said(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value
