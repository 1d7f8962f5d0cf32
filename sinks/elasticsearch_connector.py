"""Documents of a batch → Elasticsearch by elasticsearch-hadoop: the rows stay in the JVM.

The connector tells nothing about single documents, and quotes them where it fails. So its errors are dropped,
and the index's own counter tells whether every document got in.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from elasticsearch import Elasticsearch
from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame

from headwater.log import logger
from headwater.settings import Elasticsearch as Settings
from sinks.elasticsearch_judge import ANSWER, explained

PROBE = "headwater-probe"
_log = logger(__name__)


@dataclass(frozen=True)
class Connector:
    """Where documents go, and the columns that hold what is their `_id` and version."""

    client: Elasticsearch
    settings: Settings
    alias: str
    key: str
    version: str

    def took(self, documents: DataFrame, rows: int) -> bool:
        """Whether the index counts exactly these rows as indexed meanwhile; if not, nothing is known.

        A document that the server refuses, or has in a newer version, is dropped without a word.
        """
        self._probe()
        before = self._indexed()
        try:
            save_json(documents, self.alias, self._options())
        except Py4JJavaError as fault:
            # Only the class: the text quotes documents.
            _log.warning("connector_aborted", fault=str(fault.java_exception.getClass().getSimpleName()))
            return False
        return self._indexed() - before == rows

    def _probe(self) -> None:
        """Ask for nothing (delete what is not there), to learn whether bulk requests are accepted at all.

        The connector would log the documents of a request that is refused as a whole (401, 403, 429).
        """
        with explained("bulk"):
            self.client.bulk(
                index=self.alias,
                operations=[{"delete": {"_id": PROBE}}],
                require_alias=True,
                filter_path=ANSWER,
            )

    def _indexed(self) -> int:
        """How many documents the index's primaries took since they started; conflicts do not count."""
        with explained("reading statistics"):
            found = self.client.indices.stats(index=self.alias, metric="indexing")
        return int(found["_all"]["primaries"]["indexing"]["index_total"])

    def _options(self) -> dict[str, str]:
        """The connector's settings. Its error handler "log" drops what the server refuses, without a word."""
        settings = self.settings
        url = urlsplit(settings.url)
        tls = url.scheme == "https"
        options = {
            "es.nodes": url.hostname or "",
            "es.port": str(url.port or (443 if tls else 80)),
            "es.nodes.path.prefix": url.path.strip("/"),
            "es.nodes.wan.only": "true",
            "es.net.ssl": str(tls).lower(),
            "es.index.auto.create": "false",
            "es.mapping.id": self.key,
            "es.mapping.version": self.version,
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
    config = getattr(jvm, "java.util.HashMap")()
    for name, value in options.items():
        config.put(name, value)
    lines = documents._jdf.toJSON().toJavaRDD()  # noqa: SLF001 - the rows stay in the JVM
    getattr(jvm, "org.elasticsearch.spark.rdd.api.java.JavaEsSpark").saveJsonToEs(lines, index, config)
