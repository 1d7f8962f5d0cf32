"""The API's own Prometheus metrics. Labels are bounded whatever callers send."""

import os
import re

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

MAX_SOURCES = 100
OTHER = "other"
UNKNOWN = "unknown"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,49}")  # no address of a person
disable_created_metrics()  # type: ignore[no-untyped-call]  # the package has no types there
REGISTRY = CollectorRegistry()
EVENTS = Counter(
    "ingest_api_events_total",
    "Events received, by source and verdict.",
    ["source", "status"],
    registry=REGISTRY,
)
DISCARDED = Counter("ingest_api_discarded_total", "Events without consent, forgotten.", registry=REGISTRY)
UNAVAILABLE = Counter("ingest_api_unavailable_total", "Requests that Kafka did not take.", registry=REGISTRY)
DEAD_LETTERS = Counter(
    "ingest_api_dead_letters_total", "Refused bodies, by what became of them.", ["outcome"], registry=REGISTRY
)
REFUSED = Counter(
    "ingest_api_refused_total", "Requests refused before their events were read.", ["code"], registry=REGISTRY
)
UPLOADS = Counter(
    "ingest_api_uploads_total",
    "Uploads of known callers: queued, known (imported before), refused, unavailable.",
    ["outcome"],
    registry=REGISTRY,
)
UPLOAD_BYTES = Counter("ingest_api_upload_bytes_total", "Bytes of queued files.", registry=REGISTRY)
LATENCY = Histogram(
    "ingest_api_latency_seconds",
    "Seconds from a request's head to its answer, POST /ingest and /ingest/batch.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
QUEUE = Gauge(
    "ingest_api_publisher_queue",
    "Records handed to Kafka and not yet acknowledged.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)


class Sources:
    """Source labels: the first MAX_SOURCES of accepted events keep their names, the rest are `other`."""

    def __init__(self, most: int = MAX_SOURCES) -> None:
        self._most = most
        self._known: set[str] = set()
        self._accepted: dict[str, Counter] = {}  # by source as it was sent, at most as many as names

    def count_accepted(self, source: str) -> None:
        """One more valid event of that source. What is counted under its own name is looked up once."""
        counter = self._accepted.get(source)
        if counter is None:
            counter = EVENTS.labels(self.label(source, accepted=True), "valid")
            if source in self._known:
                self._accepted[source] = counter
        counter.inc()

    def label(self, source: str | None, accepted: bool) -> str:
        """The label of a source as it was sent; what does not look like a source's name is `unknown`."""
        name = source.strip() if source else ""
        if not _NAME.fullmatch(name):
            return UNKNOWN
        if name not in self._known:
            if not accepted or len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name


def exposition() -> bytes:
    """The text that Prometheus scrapes; of all workers when there are several."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # no types there
    return generate_latest(registry)
