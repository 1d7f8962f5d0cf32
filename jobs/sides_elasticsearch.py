"""Elasticsearch's side of reconcile: all documents of one point in time, page by page."""

import hashlib
import json
from collections.abc import Iterator
from importlib import resources
from typing import Any

from elasticsearch import Elasticsearch
from pyspark.sql import Column
from pyspark.sql import functions as F

from headwater.clock import ISO_MICROSECONDS
from headwater.elasticsearch import client_options
from headwater.settings import Settings
from jobs.sides import KEY_BYTES, PAGE, Found, Side
from schemas.tables import LEADS


def _mapped() -> tuple[str, ...]:
    text = (resources.files("schemas") / "elasticsearch" / "leads.json").read_text(encoding="utf-8")
    return tuple(name for name in json.loads(text)["mappings"]["properties"] if name != "doc_key")


def _elasticsearch_text(name: str) -> Column:
    return F.date_format(name, ISO_MICROSECONDS) if name == "received_at" else F.col(name).cast("string")


def _elasticsearch_rows(settings: Settings) -> Iterator[Found]:
    server = settings.elasticsearch
    with Elasticsearch(**client_options(server), request_timeout=60) as client:
        alias = f"{server.prefix}leads"
        client.indices.refresh(index=alias)
        point = client.open_point_in_time(index=alias, keep_alive="2m")["id"]
        try:
            for hit in _hits(client, point):
                yield bytes.fromhex(hit["_id"][: 2 * KEY_BYTES]), _document_digest(hit["_source"]), ()
        finally:
            client.close_point_in_time(id=point)


def _hits(client: Elasticsearch, point: str) -> Iterator[Any]:
    after: list[Any] | None = None
    while True:
        pit = {"id": point, "keep_alive": "2m"}
        page = client.search(
            pit=pit, size=PAGE, sort=["_shard_doc"], search_after=after, track_total_hits=False
        )
        hits = page["hits"]["hits"]
        yield from hits
        if len(hits) < PAGE:
            return
        after = hits[-1]["sort"]


def _document_digest(source: dict[str, Any]) -> bytes:
    values = [source.get(name) for name in COLUMNS]
    framed = [b"-" if v is None else b"%d:%b" % (len(raw := str(v).encode()), raw) for v in values]
    return hashlib.md5(b"".join(framed), usedforsecurity=False).digest()


COLUMNS = _mapped()
LEADS_SIDE = Side(
    "elasticsearch",
    LEADS,
    ("tenant_id", "idempotency_key"),
    COLUMNS,
    _elasticsearch_text,
    (),
    _elasticsearch_rows,
)
