"""The running batch's own numbers, read inside foreachBatch. Private Spark API: all of it is in this file.

`observe()` rows and operator metrics reach `StreamingQuery.lastProgress` only after the commit; the ledger
needs them before the first write.
"""

import json
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from headwater.errors import HeadwaterError

QUERY_ID = "sql.streaming.queryId"


@dataclass(frozen=True)
class BatchNumbers:
    """What the executed plan counted: the observed row, duplicates dropped, rows dropped as late."""

    observed: dict[str, Any]
    duplicates: int
    late: int


def query_id(batch: DataFrame) -> str:
    """The id of the query that this micro-batch belongs to; it lives in the checkpoint."""
    found = batch.sparkSession.sparkContext.getLocalProperty(QUERY_ID)
    if not found:
        raise HeadwaterError("not inside foreachBatch: no query id")
    return found


def batch_numbers(spark: SparkSession, query: str, observation: str) -> BatchNumbers:
    """Numbers of the query's running batch, which must have been consumed whole already."""
    execution = _execution(spark, query)
    rows = execution.observedMetrics()
    observed = json.loads(rows.apply(observation).json()) if rows.contains(observation) else {}
    metrics = _sums(execution.executedPlan(), ("numDroppedDuplicateRows", "numRowsDroppedByWatermark"))
    return BatchNumbers(observed, metrics["numDroppedDuplicateRows"], metrics["numRowsDroppedByWatermark"])


def _execution(spark: SparkSession, query: str) -> Any:
    active = spark._jsparkSession.streams().active()
    for running in active:
        if running.id().toString() == query:
            return running.streamingQuery().lastExecution()
    raise HeadwaterError("the query is not running any more")


def _sums(plan: Any, names: tuple[str, ...]) -> dict[str, int]:
    totals = dict.fromkeys(names, 0)
    nodes = [plan]
    while nodes:
        node = nodes.pop()
        metrics = node.metrics()
        for name in names:
            if metrics.contains(name):
                totals[name] += int(metrics.apply(name).value())
        children = node.children()
        nodes += [children.apply(i) for i in range(children.size())]
    return totals


def busy(spark: SparkSession) -> bool:
    """Whether any task is running now. The scheduler knows at once; the status store may never be told of a
    task that begins within 100 ms of its stage, until it ends."""
    running = spark.sparkContext._jsc.sc().taskScheduler().runningTasksByExecutors().valuesIterator()
    while running.hasNext():
        if running.next() > 0:
            return True
    return False
