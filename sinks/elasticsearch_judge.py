"""Requests to Elasticsearch's bulk API, every item's answer judged.

2xx and version conflicts (409, a newer one is there) are fine; 400 is the document's fault and rejects it;
429 and 5xx are sent again with backoff; anything else is a set-up fault.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from elastic_transport import TlsError, TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError

from headwater.errors import SetupError, TransientError
from headwater.retry import retrying
from sinks.base import Rejected, Written

CREATED = 201
CONFLICT = 409
TOO_MANY = 429
REQUEST_TIMEOUT = 408
BAD_REQUEST = 400
SERVER_FAULT = 500
# A field that the mapping lacks is our mistake, not the row's.
SETUP_TYPES = {"strict_dynamic_mapping_exception"}
ANSWER = "items.*.status,items.*.error.type"
# Requests of one task that are on their way at once: while the server has one, the next is made.
AT_ONCE = 2
LINES = "lines"
ORIGIN = ("source_topic", "source_partition", "source_offset", "tenant_id")


@dataclass
class Tally:
    """What the items' answers came to."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.inserted += other.inserted
        self.updated += other.updated
        self.unchanged += other.unchanged
        self.rejected += other.rejected

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

    def write(self, batches: Iterable[pa.RecordBatch]) -> Tally:
        """Send rows of LINES (what to do with a document, and the document) and ORIGIN.

        No more than AT_ONCE requests and the next one are in memory.
        """
        tally = Tally()
        sent: deque[Future[Tally]] = deque()
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            for request in (part for batch in batches for part in self._parts(batch)):
                if len(sent) > AT_ONCE:
                    tally.add(sent.popleft().result())
                sent.append(pool.submit(self._deliver, request))
            while sent:
                tally.add(sent.popleft().result())
        finally:  # after a fault, what has not begun is not begun
            pool.shutdown(cancel_futures=True)
        return tally

    def _parts(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        first = size = 0
        for row, length in enumerate(pc.binary_length(batch.column(LINES)).to_pylist()):
            if row > first and (row - first == self.entries or size + length > self.size):
                yield batch.slice(first, row - first)
                first, size = row, 0
            size += length
        if batch.num_rows:
            yield batch.slice(first)

    def _deliver(self, request: pa.RecordBatch) -> Tally:
        """Send it, and again what was deferred, until nothing is left or the patience is."""
        tally, pending = Tally(), [request]
        retrying(partial(self._drain, pending, tally), "elasticsearch bulk", self.patience_s)
        return tally

    def _drain(self, pending: list[pa.RecordBatch], tally: Tally) -> None:
        """Send what is pending and keep what is to be sent again. Raises TransientError while any is left."""
        (rows,) = pending
        again = [row for row, item in enumerate(self._send(rows)) if not _judged(rows, row, item, tally)]
        if again:
            pending[:] = [rows.take(pa.array(again))]
            raise TransientError(f"Elasticsearch is too busy for {len(again)} documents")

    def _send(self, rows: pa.RecordBatch) -> list[dict[str, Any]]:
        """One request; an answer for each row."""
        body: Any = b"".join(rows.column(LINES).cast(pa.binary()).to_pylist())
        with explained("bulk"):
            answer = self.client.bulk(
                index=self.alias, operations=body, require_alias=True, filter_path=ANSWER
            )
        items = [item["index"] for item in answer["items"]]
        if len(items) != rows.num_rows:
            raise TransientError(f"Elasticsearch answers for {len(items)} of {rows.num_rows} documents")
        return items


def _judged(rows: pa.RecordBatch, row: int, item: dict[str, Any], tally: Tally) -> bool:
    """Count the item; False when it is to be sent again."""
    status, kind = int(item["status"]), item.get("error", {}).get("type")
    if status == TOO_MANY or status >= SERVER_FAULT:
        return False
    if status == CONFLICT:
        tally.unchanged += 1
    elif status == BAD_REQUEST and kind not in SETUP_TYPES:
        topic, partition, offset, tenant = (rows.column(name)[row].as_py() for name in ORIGIN)
        tally.rejected.append(Rejected(topic, partition, offset, tenant, str(status), kind))
    elif status >= BAD_REQUEST:
        raise SetupError(f"Elasticsearch refuses documents with {status} {kind}: check mapping and rights")
    elif status == CREATED:
        tally.inserted += 1
    else:
        tally.updated += 1
    return True


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
    except TlsError:
        raise SetupError(
            "the certificate of Elasticsearch cannot be verified, or is another host's: "
            "check elasticsearch.url and elasticsearch.ca_file"
        ) from None
    except TransportError as fault:
        raise TransientError(f"Elasticsearch does not answer {action} ({type(fault).__name__})") from None
