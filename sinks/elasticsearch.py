"""silver.<table> → Elasticsearch: one document a row; old never replaces new, by version.

They go by the bulk API from the executors (elasticsearch_bulk.py), or by the connector in the JVM
(elasticsearch_connector.py); what the connector did not take as a whole goes by the bulk API, too.
"""

import json
import re
from collections.abc import Sequence
from importlib import resources
from time import monotonic
from typing import Any

from elasticsearch import BadRequestError
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from headwater.clock import ISO_MICROSECONDS
from headwater.errors import SetupError
from headwater.log import logger
from headwater.settings import Settings
from sinks.base import Seen, Written
from sinks.elasticsearch_bulk import MICROS, BulkTarget, Sent, client_of, send
from sinks.elasticsearch_connector import Connector
from sinks.elasticsearch_judge import LINES, ORIGIN, explained
from sinks.elasticsearch_mend import take_away, wait_until_forgotten
from sinks.written import say

DOC_KEY = "doc_key"
VERSION = "row_version"
_UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20}
_log = logger(__name__)


class ElasticsearchSink:
    """One index behind an alias. `_id` = sha-256 of the key's parts with NUL between, in hex."""

    name = "elasticsearch"

    def __init__(
        self,
        settings: Settings,
        query: str = "deliver.leads.elasticsearch",
        alias: str = "leads",
        definition: str = "leads.json",
        key: tuple[str, str] = ("tenant_id", "idempotency_key"),
        patience_s: float = 30.0,
    ) -> None:
        self._elasticsearch = settings.elasticsearch
        self._query = query
        self._alias = settings.elasticsearch.prefix + alias
        self._index = f"{self._alias}-v1"
        self._key = key
        text = (resources.files("schemas") / "elasticsearch" / definition).read_text(encoding="utf-8")
        self._definition: dict[str, Any] = json.loads(text)
        self._columns = [name for name in self._definition["mappings"]["properties"] if name != DOC_KEY]
        self._made_fields: list[Column] | None = None
        self._target = self._make_target(patience_s)
        self._client = client_of(settings.elasticsearch)

    def setup(self) -> None:
        """Make index and alias if they are not there; raise SetupError if the mapping is another one."""
        with explained(f"making index {self._index}"):
            if not self._client.indices.exists_alias(name=self._alias):
                self._create()
            there = self._client.indices.get_mapping(index=self._alias)
        for index, found in there.items():
            if found["mappings"] != self._definition["mappings"]:
                raise SetupError(
                    f"index {index} has another mapping than schemas/elasticsearch: "
                    "rebuild it with `deliver --from-start`"
                )

    def write(self, batch: DataFrame) -> Written:
        """Put the documents, newest row_version wins. Reads the batch once.

        With the connector twice or thrice (persist it); what it wrote counts as updated, because it does not
        tell new from replaced.
        """
        started = monotonic()
        sent = self._by_connector(batch) if self._elasticsearch.writer == "connector" else None
        sent = sent or send(self._lines(batch), self._target, self._elasticsearch.bulk_partitions)
        where = {"sink": self.name, "query": self._query}
        say(sent.written, (sent.earliest, sent.latest), monotonic() - started, **where)
        return sent.written

    def mend(self, batch: DataFrame, wrong: Sequence[Seen]) -> Written:
        """As `write`, which replaces what has the same version. A document of a later version than the lake's
        is taken away first, and is not there until the server has forgotten it."""
        if ahead := [row for row in wrong if row.version > row.due]:
            take_away(self._client, self._alias, ahead)
            wait_until_forgotten(self._client, self._alias)
        return self.write(batch)

    def withdraw(self, extra: Sequence[Seen]) -> int:
        """Delete documents that are still as they were found; how many went."""
        gone = take_away(self._client, self._alias, extra)
        _log.info("withdrawn", sink=self.name, query=self._query, rows=gone)
        return gone

    def reset(self) -> None:
        """Delete the index and make it again, empty."""
        with explained(f"remaking index {self._index}"):
            if self._client.indices.exists_alias(name=self._alias):
                old = list(self._client.indices.get_alias(name=self._alias))
                self._client.indices.delete(index=old)
        self.setup()

    def _by_connector(self, batch: DataFrame) -> Sent | None:
        """None when some of the documents may not be there."""
        seen = _seen(batch)
        connector = Connector(self._client, self._elasticsearch, self._alias, DOC_KEY, VERSION)
        documents = batch.select(*self._fields(batch), self._doc_key().alias(DOC_KEY))
        if seen.rows and not connector.took(documents, seen.rows):
            return None
        return Sent(Written(inserted=0, updated=seen.rows, unchanged=0), seen.earliest, seen.latest)

    def _lines(self, batch: DataFrame) -> DataFrame:
        """Of each row the two lines of a bulk request, where it came from, and its time."""
        action = F.concat(
            F.lit('{"index":{"version_type":"external_gte","version":'),
            F.col(VERSION).cast("string"),
            F.lit(',"_id":"'),
            self._doc_key(),
            F.lit('"}}\n'),
        )
        document = F.to_json(F.struct(*self._fields(batch)))
        lines = F.concat(action, document, F.lit("\n")).alias(LINES)
        return batch.select(lines, *ORIGIN, F.unix_micros("event_time").alias(MICROS))

    def _fields(self, batch: DataFrame) -> list[Column]:
        """The mapping's columns; times as text with microseconds and zone."""
        if self._made_fields is None:
            kinds = {field.name: field.dataType for field in batch.schema}
            self._made_fields = [
                F.date_format(name, ISO_MICROSECONDS).alias(name)
                if isinstance(kinds[name], TimestampType)
                else F.col(name)
                for name in self._columns
            ]
        return self._made_fields

    def _doc_key(self) -> Column:
        tenant, key = self._key
        return F.sha2(F.concat(F.col(tenant), F.lit("\0"), F.col(key)), 256)

    def _create(self) -> None:
        try:
            self._client.indices.create(
                index=self._index,
                settings=self._definition["settings"],
                mappings=self._definition["mappings"],
                aliases={self._alias: {}},
            )
        except BadRequestError as fault:
            if fault.error != "resource_already_exists_exception":
                raise
            # Another starter was quicker, or the alias was taken away.
            self._client.indices.put_alias(index=self._index, name=self._alias)

    def _make_target(self, patience_s: float) -> BulkTarget:
        settings = self._elasticsearch
        size = _bytes(settings.batch_bytes)
        return BulkTarget(settings, self._alias, settings.batch_entries, size, patience_s)


def _seen(batch: DataFrame) -> Row:
    """Rows, earliest and latest event time."""
    times = F.min("event_time").alias("earliest"), F.max("event_time").alias("latest")
    return batch.agg(F.count(F.lit(1)).alias("rows"), *times).collect()[0]


def _bytes(text: str) -> int:
    """Bytes of a size as Elasticsearch writes it: 4mb, 512kb."""
    found = re.fullmatch(r"(\d+)([kmb]*)", text.strip().lower())
    if not found or found[2] not in _UNITS:
        raise SetupError(f"elasticsearch.batch_bytes {text!r} is no size: write for example 4mb")
    return int(found[1]) * _UNITS[found[2]]
