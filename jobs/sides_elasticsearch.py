"""Elasticsearch's side of reconcile: documents of one point in time, page by page.

A sample is chosen by `id`, which is made of the key, for the server can compare no part of `_id`: a document
without an `id` is in no sample.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

from elasticsearch import Elasticsearch
from pyspark.sql import Column
from pyspark.sql import functions as F

from headwater.clock import ISO_MICROSECONDS
from headwater.elasticsearch import client_options
from headwater.settings import Settings
from jobs.chosen import ALL, Chosen
from jobs.sides import PAGE, Found, Side
from schemas.tables import LEADS
from sinks.elasticsearch_judge import explained

_OURS = re.compile(r"[0-9a-f]{64}")
# Before an id that is not ours, so that it is longer than any digest.
_FOREIGN = bytes(32)


def _mapped() -> tuple[str, ...]:
    text = (resources.files("schemas") / "elasticsearch" / "leads.json").read_text(encoding="utf-8")
    return tuple(name for name in json.loads(text)["mappings"]["properties"] if name != "doc_key")


def _elasticsearch_text(name: str) -> Column:
    return F.date_format(name, ISO_MICROSECONDS) if name == "received_at" else F.col(name).cast("string")


def _elasticsearch_rows(settings: Settings, chosen: Chosen = ALL) -> Iterator[Found]:
    server = settings.elasticsearch
    with (
        explained("reading documents"),
        Elasticsearch(**client_options(server), request_timeout=60) as client,
    ):
        alias = f"{server.prefix}leads"
        client.indices.refresh(index=alias)
        point = client.open_point_in_time(index=alias, keep_alive="2m")["id"]
        try:
            for hit in (hit for query in _queries(chosen) for hit in _hits(client, point, query)):
                name, token = hit["_id"], (hit["_id"], hit["_seq_no"], hit["_primary_term"])
                yield Found(_key(name), _document_digest(hit["_source"]), (), hit["_version"], token)
        finally:
            client.close_point_in_time(id=point)


def _key(name: str) -> bytes:
    return bytes.fromhex(name) if _OURS.fullmatch(name) else _FOREIGN + name.encode()


def _name(key: bytes) -> str:
    return key.removeprefix(_FOREIGN).decode() if len(key) > len(_FOREIGN) else key.hex()


def _queries(chosen: Chosen) -> Iterator[dict[str, Any]]:
    if chosen.few is not None:
        names = sorted(map(_name, chosen.few))
        for first in range(0, len(names), PAGE):
            yield {"ids": {"values": names[first : first + PAGE]}}
    elif chosen.below:
        yield {"range": {"id": {"lt": chosen.below}}}
    else:
        yield {"match_all": {}}


def _hits(client: Elasticsearch, point: str, query: dict[str, Any]) -> Iterator[Any]:
    after: list[Any] | None = None
    while True:
        page = client.search(
            pit={"id": point, "keep_alive": "2m"},
            query=query,
            size=PAGE,
            sort=["_shard_doc"],
            search_after=after,
            track_total_hits=False,
            version=True,
            seq_no_primary_term=True,
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
    spread="id",
)
