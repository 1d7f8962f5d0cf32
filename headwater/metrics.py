"""Prometheus metrics of the jobs, served on settings.metrics; the API has its own."""

from prometheus_client import Counter, Gauge, Histogram

EVENTS = Counter(
    "consumer_events_processed_total", "Events by their outcome.", ["query", "stream", "outcome"]
)
DEAD = Counter("dlq_events_total", "Dead letters by their first reason.", ["stream", "stage", "reason"])
WARNED = Counter(
    "headwater_warnings_total",
    "Values that were stored null because nobody could read them.",
    ["stream", "column"],
)
LAG = Gauge("headwater_consumer_lag", "Records behind the source's end.", ["query", "topic", "partition"])
BATCH_SECONDS = Histogram(
    "headwater_batch_seconds",
    "Seconds one micro-batch took.",
    ["query"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
)
BATCH_ROWS = Gauge("headwater_batch_rows_per_second", "Input rows a second of the last batch.", ["query"])
LAST_BATCH = Gauge("headwater_last_batch_timestamp_seconds", "When the last batch ended.", ["query"])
STOPPED = Gauge(
    "headwater_query_stopped",
    "1: the query or loop has stopped for what a person must mend, while others of its driver may go on.",
    ["query"],
)
PENDING = Gauge("headwater_pending", "Announcements or deliveries that wait, of a loop.", ["query"])
BREAKER = Gauge("headwater_webhook_breaker", "0 closed, 1 probing, 2 open.", ["connector"])
MARKETO_CALLS = Counter(
    "headwater_marketo_calls_total", "Calls to Marketo's REST API by their outcome.", ["call", "outcome"]
)
IMPORTS = Counter("headwater_imports_total", "Attempts at importing a file, by their end.", ["status"])
