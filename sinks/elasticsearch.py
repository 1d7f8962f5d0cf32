"""silver.<table> → Elasticsearch: documents by the connector in the JVM; old never replaces new, by version.

The connector tells nothing about single documents, and quotes them where it fails. So its errors are dropped,
the index's own counter tells whether every document got in, and if not the batch goes again through the bulk
API, where each answer is judged (elasticsearch_judge.py).
"""

import json
import re
from importlib import resources
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from elasticsearch import BadRequestError, Elasticsearch
from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from headwater.clock import ISO_MICROSECONDS, iso
from headwater.errors import SetupError
from headwater.log import logger
from headwater.settings import Settings
from sinks.base import Written
from sinks.elasticsearch_judge import Bulk, explained

DOC_KEY = "doc_key"
VERSION = "row_version"
LINEAGE = ("source_topic", "source_partition", "source_offset", "tenant_id")
REQUEST_TIMEOUT_S = 60
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
        self._patience_s = patience_s
        text = (resources.files("schemas") / "elasticsearch" / definition).read_text(encoding="utf-8")
        self._definition: dict[str, Any] = json.loads(text)
        self._columns = [name for name in self._definition["mappings"]["properties"] if name != DOC_KEY]
        self._made_fields: list[Column] | None = None
        self._client = self._make_client()

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
        """Put the documents, newest row_version wins. Reads the batch twice (persist it), or thrice.

        The connector does not tell new from replaced: what it wrote counts as updated.
        """
        started = monotonic()
        seen = _seen(batch)
        written = Written(0, 0, 0)
        if seen.rows:
            written = self._by_connector(batch, seen.rows) or self._judged(batch)
        _log.info(
            "written",
            sink=self.name,
            query=self._query,
            rows=written.rows,
            inserted=written.inserted,
            updated=written.updated,
            unchanged=written.unchanged,
            rejected=len(written.rejected),
            min_event_time=iso(seen.earliest) if seen.earliest else None,
            max_event_time=iso(seen.latest) if seen.latest else None,
            seconds=round(monotonic() - started, 3),
        )
        return written

    def reset(self) -> None:
        """Delete the index and make it again, empty."""
        with explained(f"remaking index {self._index}"):
            if self._client.indices.exists_alias(name=self._alias):
                old = list(self._client.indices.get_alias(name=self._alias))
                self._client.indices.delete(index=old)
        self.setup()

    def _by_connector(self, batch: DataFrame, rows: int) -> Written | None:
        """None unless the index counts exactly these rows as indexed meanwhile."""
        self._bulk().probe()
        before = self._indexed()
        try:
            save_json(self._documents(batch), self._alias, self._options())
        except Py4JJavaError as fault:
            _log.warning("connector_aborted", query=self._query, fault=_java_class(fault))
            return None
        if self._indexed() - before != rows:
            return None
        return Written(inserted=0, updated=rows, unchanged=0)

    def _judged(self, batch: DataFrame) -> Written:
        document = F.to_json(F.struct(*self._fields(batch))).alias("document")
        rows = batch.select(self._doc_key(), VERSION, document, *(F.col(n).alias(n) for n in LINEAGE))
        return self._bulk().write(rows.toLocalIterator())

    def _bulk(self) -> Bulk:
        settings = self._elasticsearch
        size = _bytes(settings.batch_bytes)
        return Bulk(self._client, self._alias, settings.batch_entries, size, self._patience_s)

    def _documents(self, batch: DataFrame) -> DataFrame:
        return batch.select(*self._fields(batch), self._doc_key())

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
        return F.sha2(F.concat(F.col(tenant), F.lit("\0"), F.col(key)), 256).alias(DOC_KEY)

    def _indexed(self) -> int:
        """How many documents the index's primaries took since they started; conflicts do not count."""
        with explained("reading statistics"):
            found = self._client.indices.stats(index=self._alias, metric="indexing")
        return int(found["_all"]["primaries"]["indexing"]["index_total"])

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

    def _make_client(self) -> Elasticsearch:
        settings = self._elasticsearch
        secret = settings.password.get_secret_value() if settings.password else ""
        login = (settings.username, secret) if settings.username else None
        return Elasticsearch(settings.url, basic_auth=login, request_timeout=REQUEST_TIMEOUT_S, max_retries=0)

    def _options(self) -> dict[str, str]:
        """The connector's settings. Its error handler "log" drops what the server refuses, without a word."""
        settings = self._elasticsearch
        url = urlsplit(settings.url)
        tls = url.scheme == "https"
        options = {
            "es.nodes": url.hostname or "",
            "es.port": str(url.port or (443 if tls else 80)),
            "es.nodes.path.prefix": url.path.strip("/"),
            "es.nodes.wan.only": "true",
            "es.net.ssl": str(tls).lower(),
            "es.index.auto.create": "false",
            "es.mapping.id": DOC_KEY,
            "es.mapping.version": VERSION,
            "es.mapping.version.type": "external_gte",
            "es.batch.size.entries": str(settings.batch_entries),
            "es.batch.size.bytes": settings.batch_bytes,
            "es.batch.write.refresh": "false",
            "es.batch.write.retry.count": "3",
            "es.batch.write.retry.wait": "1s",
            "es.http.retries": "0",
            "es.write.rest.error.handlers": "log",
            "es.write.rest.error.handler.log.logger.name": "headwater.elasticsearch.refused",
            "es.write.rest.error.handler.log.logger.level": "DEBUG",
        }
        if settings.username:
            options["es.net.http.auth.user"] = settings.username
            secret = settings.password
            options["es.net.http.auth.pass"] = secret.get_secret_value() if secret else ""
        return options


def save_json(documents: DataFrame, index: str, options: dict[str, str]) -> None:
    """The connector's Java call, the only place that knows it: its data source does not load on Spark 4.1."""
    jvm: Any = documents.sparkSession.sparkContext._jvm  # noqa: SLF001 - no public way into the JVM
    config = jvm.java.util.HashMap()
    for name, value in options.items():
        config.put(name, value)
    lines = documents._jdf.toJSON().toJavaRDD()  # noqa: SLF001 - the rows stay in the JVM
    jvm.org.elasticsearch.spark.rdd.api.java.JavaEsSpark.saveJsonToEs(lines, index, config)


def _seen(batch: DataFrame) -> Row:
    """Rows, earliest and latest event time."""
    times = F.min("event_time").alias("earliest"), F.max("event_time").alias("latest")
    return batch.agg(F.count(F.lit(1)).alias("rows"), *times).collect()[0]


def _java_class(fault: Py4JJavaError) -> str:
    """Only the class: the text quotes documents."""
    return str(fault.java_exception.getClass().getSimpleName())


def _bytes(text: str) -> int:
    """Bytes of a size as Elasticsearch writes it: 4mb, 512kb."""
    found = re.fullmatch(r"(\d+)([kmb]*)", text.strip().lower())
    if not found or found[2] not in _UNITS:
        raise SetupError(f"elasticsearch.batch_bytes {text!r} is no size: write for example 4mb")
    return int(found[1]) * _UNITS[found[2]]
