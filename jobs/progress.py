"""What a running query says of itself → metrics, and a line a batch for whoever watches."""

import json
from typing import Any

from pyspark.sql.streaming.query import StreamingQuery

from headwater.clock import utc_now
from headwater.log import logger
from headwater.metrics import BATCH_ROWS, LAG, LAST_BATCH
from jobs.pulse import Pulse

_log = logger(__name__)
# Spark's names of the times that hold the wait for a turn.
_WITH_WAITING = {"addBatch", "triggerExecution"}


def report(name: str, stream: StreamingQuery, batch: int, waited_s: float, pulse: Pulse) -> bool:
    """Publish the newest progress if it is of this batch or a later one, which Spark has a moment after the
    batch; whether it was. `waited_s`: of the batch's time, those it only waited for its next turn. Asking
    takes milliseconds of Python and of the JVM."""
    newest = stream.lastProgress
    if newest is None:
        return False
    progress = json.loads(newest.json)
    if progress["batchId"] < batch:
        return False
    lag = pulse.lag = _lag(name, progress["sources"][0])
    if not progress["numInputRows"]:
        return True
    seconds = {part: ms / 1000 for part, ms in sorted(progress["durationMs"].items()) if ms >= 100}
    for part in _WITH_WAITING & seconds.keys():
        seconds[part] = round(max(0.0, seconds[part] - waited_s), 3)
    rows_per_s = progress["numInputRows"] / max(seconds.get("triggerExecution", 0.0), 0.1)
    BATCH_ROWS.labels(name).set(rows_per_s)
    LAST_BATCH.labels(name).set(utc_now().timestamp())
    _log.info(
        "batch",
        query=name,
        batch_id=progress["batchId"],
        rows=progress["numInputRows"],
        rows_per_s=round(rows_per_s),
        seconds=seconds,
        lag=lag,
    )
    return True


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
