"""Documents → Elasticsearch's bulk API, every item's answer judged: slower than the connector, and exact.

2xx and version conflicts (409, a newer one is there) are fine; 400 is the document's fault and rejects it;
429 and 5xx are sent again with backoff; anything else is a set-up fault.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError
from pyspark.sql import Row

from headwater.errors import SetupError, TransientError
from headwater.retry import retrying
from sinks.base import Rejected, Written

CONFLICT = 409
TOO_MANY = 429
REQUEST_TIMEOUT = 408
BAD_REQUEST = 400
SERVER_FAULT = 500
# A field that the mapping lacks is our mistake, not the row's.
SETUP_TYPES = {"strict_dynamic_mapping_exception"}
PROBE = "headwater-probe"
ANSWER = "items.*.status,items.*.result,items.*.error.type"


@dataclass
class Tally:
    """What the items' answers came to."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def written(self) -> Written:
        return Written(self.inserted, self.updated, self.unchanged, tuple(self.rejected))


@dataclass(frozen=True)
class Bulk:
    """Where to send to, in requests of at most so many documents and bytes, and how long to insist."""

    client: Elasticsearch
    alias: str
    entries: int
    size: int
    patience_s: float

    def write(self, rows: Iterable[Row]) -> Written:
        """Send rows of (doc_key, row_version, document, source_*, tenant_id); one request is in memory."""
        tally = Tally()
        for chunk in self._chunks(rows):
            retrying(partial(self._drain, chunk, tally), "elasticsearch bulk", self.patience_s)
        return tally.written()

    def probe(self) -> None:
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

    def _drain(self, pending: list[Row], tally: Tally) -> None:
        """Send what is pending and keep what is to be sent again. Raises TransientError while any is left."""
        pending[:] = self._send(pending, tally)
        if pending:
            raise TransientError(f"Elasticsearch is too busy for {len(pending)} documents")

    def _chunks(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        chunk: list[Row] = []
        size = 0
        for row in rows:
            length = len(row.document.encode())
            if chunk and (len(chunk) == self.entries or size + length > self.size):
                yield chunk
                chunk, size = [], 0
            chunk.append(row)
            size += length
        if chunk:
            yield chunk

    def _send(self, chunk: list[Row], tally: Tally) -> list[Row]:
        """One request; the rows that are to be sent again."""
        operations = [line for row in chunk for line in (_action(row), row.document)]
        with explained("bulk"):
            answer = self.client.bulk(
                index=self.alias, operations=operations, require_alias=True, filter_path=ANSWER
            )
        items = [item["index"] for item in answer["items"]]
        return [row for row, item in zip(chunk, items, strict=True) if not _judged(row, item, tally)]


def _judged(row: Row, item: dict[str, object], tally: Tally) -> bool:
    """Count the item; False when it is to be sent again."""
    status = int(str(item["status"]))
    error = item.get("error")
    kind = str(error["type"]) if isinstance(error, dict) else None
    if status == TOO_MANY or status >= SERVER_FAULT:
        return False
    if status == CONFLICT:
        tally.unchanged += 1
    elif status == BAD_REQUEST and kind not in SETUP_TYPES:
        origin = (row.source_topic, row.source_partition, row.source_offset, row.tenant_id)
        tally.rejected.append(Rejected(*origin, code=str(status), rule=kind))
    elif status >= BAD_REQUEST:
        raise SetupError(f"Elasticsearch refuses documents with {status} {kind}: check mapping and rights")
    elif item.get("result") == "created":
        tally.inserted += 1
    else:
        tally.updated += 1
    return True


def _action(row: Row) -> dict[str, dict[str, object]]:
    return {"index": {"_id": row.doc_key, "version": row.row_version, "version_type": "external_gte"}}


@contextmanager
def explained(action: str) -> Iterator[None]:
    """The client's faults as ours, by status and type: their text may quote a document."""
    try:
        yield
    except ApiError as fault:
        status = fault.meta.status
        if status in (REQUEST_TIMEOUT, TOO_MANY) or status >= SERVER_FAULT:
            raise TransientError(f"Elasticsearch answers {status} to {action}") from None
        raise SetupError(
            f"Elasticsearch refuses {action} with {status} {fault.error}: check elasticsearch.* and the index"
        ) from None
    except UnsupportedProductError:
        raise SetupError("elasticsearch.url is answered by something that is not Elasticsearch") from None
    except TransportError as fault:
        raise TransientError(f"Elasticsearch does not answer {action} ({type(fault).__name__})") from None
