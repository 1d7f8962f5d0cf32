"""Documents of a batch → Elasticsearch's bulk API, by tasks on the executors.

Spark's expressions make the two lines of each document. A Python task puts them together to requests and
judges the answers (elasticsearch_judge.py), so a document's fate is known from the first time it is sent.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc
from elasticsearch import Elasticsearch
from pyspark.sql import DataFrame, Row
from pyspark.sql.pandas.types import from_arrow_schema

from headwater.elasticsearch import client_options
from headwater.errors import SetupError, TransientError
from headwater.log import configure_logging
from headwater.server_settings import Elasticsearch as Settings
from headwater.worker import forget_archives
from sinks.base import Rejected, Written
from sinks.elasticsearch_judge import AT_ONCE, Bulk, Tally

REQUEST_TIMEOUT_S = 60
MICROS = "event_micros"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLIENTS = 8
_Task = Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]
_REJECTED = pa.struct(
    [
        ("source_topic", pa.string()),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
        ("tenant_id", pa.string()),
        ("code", pa.string()),
        ("rule", pa.string()),
    ]
)
_RESULT = pa.schema(
    [
        ("inserted", pa.int64()),
        ("updated", pa.int64()),
        ("unchanged", pa.int64()),
        ("rejected", pa.list_(_REJECTED)),
        ("earliest", pa.int64()),
        ("latest", pa.int64()),
        ("setup_fault", pa.string()),
        ("outage", pa.string()),
    ]
)


@dataclass(frozen=True)
class BulkTarget:
    """Where a task sends to, in requests of at most so many documents and bytes; shows no password."""

    server: Settings
    alias: str
    entries: int
    size: int
    patience_s: float


@dataclass(frozen=True)
class Sent:
    """What became of a batch, and its earliest and latest event time."""

    written: Written
    earliest: datetime | None
    latest: datetime | None


@lru_cache(maxsize=_CLIENTS)
def client_of(server: Settings) -> Elasticsearch:
    """One client a process: its connections are kept from batch to batch."""
    return Elasticsearch(
        **client_options(server),
        request_timeout=REQUEST_TIMEOUT_S,
        max_retries=0,
        connections_per_node=AT_ONCE,
    )


def send(lines: DataFrame, target: BulkTarget, partitions: int) -> Sent:
    """Send LINES of documents with their ORIGIN and MICROS, by at most `partitions` tasks."""
    results = lines.coalesce(partitions).mapInArrow(_task(target), from_arrow_schema(_RESULT)).collect()
    for fault in (row.setup_fault for row in results if row.setup_fault):
        raise SetupError(fault)
    for fault in (row.outage for row in results if row.outage):
        raise TransientError(fault)
    return _summed(results)


def _task(target: BulkTarget) -> _Task:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        forget_archives()
        yield from _sent(target, batches)

    return run


def _sent(target: BulkTarget, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Runs in a Python worker. A fault is returned, not raised, so that the driver knows its kind."""
    configure_logging("WARNING")
    client = client_of(target.server)
    bulk = Bulk(client, target.alias, target.entries, target.size, target.patience_s)
    times: list[dict[str, int | None]] = []
    tally, faults = Tally(), {}
    try:
        tally = bulk.write(_timed(batches, times))
    except SetupError as fault:
        faults["setup_fault"] = str(fault)
    except TransientError as fault:
        faults["outage"] = str(fault)
    told = {**asdict(tally), **_span(times), **faults}
    yield pa.RecordBatch.from_pylist([told], schema=_RESULT)


def _timed(batches: Iterable[pa.RecordBatch], times: list[dict[str, int | None]]) -> Iterator[pa.RecordBatch]:
    """The batches as they are; what their times span is noted."""
    for batch in batches:
        times.append(pc.min_max(batch.column(MICROS)).as_py())
        yield batch


def _span(times: list[dict[str, int | None]]) -> dict[str, int | None]:
    earliest = [span["min"] for span in times if span["min"] is not None]
    latest = [span["max"] for span in times if span["max"] is not None]
    return {"earliest": min(earliest, default=None), "latest": max(latest, default=None)}


def _summed(results: list[Row]) -> Sent:
    written = Written(
        inserted=sum(row.inserted for row in results),
        updated=sum(row.updated for row in results),
        unchanged=sum(row.unchanged for row in results),
        rejected=tuple(Rejected(*found) for row in results for found in row.rejected),
    )
    spans = [{"min": row.earliest, "max": row.latest} for row in results]
    span = _span(spans)
    return Sent(written, _moment(span["earliest"]), _moment(span["latest"]))


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(microseconds=micros)
