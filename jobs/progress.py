"""What a running query says of itself → metrics, and a line a batch for whoever watches."""

import json
from typing import Any

from pyspark.sql.streaming.query import StreamingQuery

from headwater.clock import utc_now
from headwater.log import logger
from headwater.metrics import BATCH_ROWS, LAG, LAST_BATCH

_log = logger(__name__)


def report(name: str, stream: StreamingQuery, last: dict[str, Any]) -> None:
    """Publish the newest progress, once per batch. `last` remembers which one that was."""
    newest = stream.lastProgress
    if newest is None:
        return
    progress = json.loads(newest.json)
    if (progress["batchId"], progress["timestamp"]) == last.get("seen"):
        return
    last["seen"] = (progress["batchId"], progress["timestamp"])
    lag = _lag(name, progress["sources"][0])
    if not progress["numInputRows"]:
        return
    BATCH_ROWS.labels(name).set(progress.get("processedRowsPerSecond", 0.0))
    LAST_BATCH.labels(name).set(utc_now().timestamp())
    _log.info(
        "batch",
        query=name,
        batch_id=progress["batchId"],
        rows=progress["numInputRows"],
        rows_per_s=round(progress.get("processedRowsPerSecond", 0.0)),
        seconds={part: ms / 1000 for part, ms in sorted(progress["durationMs"].items()) if ms >= 100},
        lag=lag,
    )


def _lag(name: str, source: Any) -> int | None:
    """Records (Kafka) or files (Delta) that are there and not yet taken."""
    end, latest = source.get("endOffset") or {}, source.get("latestOffset") or {}
    total = 0
    for topic, partitions in latest.items():
        if not isinstance(partitions, dict):
            break
        for partition, newest in partitions.items():
            behind = max(0, newest - end.get(topic, {}).get(partition, 0))
            LAG.labels(name, topic, partition).set(behind)
            total += behind
    metrics = source.get("metrics") or {}
    return int(metrics["numFilesOutstanding"]) if "numFilesOutstanding" in metrics else total
