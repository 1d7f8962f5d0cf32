"""The whole way, from the API's 202 to the row in PostgreSQL, against the same code on stock Spark settings.

Each run is `python -m local demo` on topics, lake, database and index of its own, with a driver that has been
warmed up by the same traffic; it fails unless all that was sent is accounted for.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from local.places import ROOT, say
from tests.integration.broker import Broker
from tests.integration.jobs_harness import World
from tests.perf.figures import OURS, Figure

PEER = "stock Spark settings"
RATE = 140  # a second by HTTP, and 60 by Kafka besides
WARM_UP_S = 150
# How long a start, and the last rows, may take; the demo's own limit is for our settings.
PATIENCE_S = 1_200
ADDRESSES = (
    "HEADWATER_LAKE",
    "HEADWATER_KAFKA__BOOTSTRAP",
    "HEADWATER_POSTGRES__DSN",
    "HEADWATER_POSTGRES__OWNER_DSN",
    "HEADWATER_POSTGRES__API_DSN",
    "HEADWATER_ELASTICSEARCH__PREFIX",
)
_STREAMING = "org.apache.spark.sql.execution.streaming"
# What headwater/session.py sets for speed, as Spark, Delta and the JVM have it.
STOCK = {
    "spark.sql.shuffle.partitions": "200",
    "spark.sql.adaptive.enabled": "true",
    "spark.scheduler.mode": "FIFO",
    "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
    "spark.databricks.delta.snapshotPartitions": "50",
    "spark.databricks.delta.history.metricsEnabled": "true",
    "spark.sql.streaming.noDataMicroBatches.enabled": "true",
    "spark.sql.streaming.stateStore.providerClass": f"{_STREAMING}.state.HDFSBackedStateStoreProvider",
    "spark.sql.streaming.checkpointFileManagerClass": (
        f"{_STREAMING}.checkpointing.FileContextBasedCheckpointFileManager"
    ),
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.LocalFs",
    "spark.sql.inMemoryColumnarStorage.compressed": "true",
    "spark.sql.ui.explainMode": "formatted",
    "spark.sql.debug.maxToStringFields": "25",
    "spark.sql.ui.retainedExecutions": "1000",
    "spark.ui.retainedJobs": "1000",
    "spark.ui.retainedStages": "1000",
    "spark.sql.codegen.cache.maxEntries": "100",
    "spark.shuffle.compress": "true",
    "spark.hadoop.parquet.dictionary.page.size": "1048576",
    "spark.hadoop.parquet.size.statistics.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "INT96",
    "spark.databricks.delta.allFilesInCrc.enabled": "true",
    "spark.executor.extraJavaOptions": "-Duser.timezone=UTC",
}
# What it sets besides: for UTC, for Delta itself, to bound memory, to be told more; or as it is by default.
KEPT = {
    "spark.sql.extensions",
    "spark.sql.catalog.spark_catalog",
    "spark.sql.session.timeZone",
    "spark.driver.memory",
    "spark.driver.extraClassPath",
    "spark.sql.execution.arrow.maxRecordsPerBatch",
    "spark.sql.execution.arrow.maxBytesPerBatch",
    "spark.python.worker.faulthandler.enabled",
    "spark.ui.showConsoleProgress",
    "spark.sql.streaming.stopTimeout",
    "spark.databricks.delta.optimizeWrite.enabled",
    "spark.databricks.delta.autoCompact.enabled",
    "spark.databricks.delta.streaming.unsafeReadOnIncompatibleSchemaChangesDuringStreamStart.enabled",
    # Of the store that the peer does not use.
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled",
    "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows",
}
CONTENDERS: dict[str, dict[str, str]] = {OURS: {}, PEER: STOCK}
# Measure → where it is in the demo's JSON, and whether more is better.
MEASURES = {
    "p50 s": (("latency_s", "accepted_to_row", "p50"), False),
    "p95 s": (("latency_s", "accepted_to_row", "p95"), False),
    "events/s": (("events_per_s",), True),
}


def race(rows: int, rounds: int) -> list[Figure]:
    """Latency and throughput of `rows` events by HTTP. Each run warms itself up, so no round is left out."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory(prefix="headwater-whole-way-") as name:
        folder = Path(name)
        (folder / "kafka").mkdir()
        broker = Broker(folder / "kafka")
        broker.format()
        broker.start()
        try:
            for number in range(rounds):
                for contender in list(CONTENDERS) if number % 2 == 0 else list(CONTENDERS)[::-1]:
                    world = World(folder / f"{contender}-{number}", broker)
                    found[contender].append(run(world, rows / RATE, CONTENDERS[contender]))
        finally:
            broker.stop()
    return [
        Figure("whole way", contender, measure, tuple(dig(one, path) for one in runs), more)
        for contender, runs in found.items()
        for measure, (path, more) in MEASURES.items()
    ]


def run(world: World, seconds: float, conf: dict[str, str]) -> dict[str, Any]:
    """The demo's figures with these Spark settings. Raises AssertionError when it does not end well."""
    out = world.folder / "demo.json"
    words = ("--warm-up", WARM_UP_S, "--seconds", seconds, "--rate", RATE, "--patience", PATIENCE_S)
    own = {name: world.env[name] for name in ADDRESSES} | {"HEADWATER_SPARK__CONF": json.dumps(conf)}
    world.open()
    try:
        demo([*map(str, words), "--interactions", "0", "--crm", "0", "--json", str(out)], os.environ | own)
    finally:
        world.close()
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    p95 = dig(found, MEASURES["p95 s"][0])
    say(f"  whole way: {PEER if conf else OURS}: p95 {p95:.1f} s, {found['events_per_s']:.0f} events/s")
    return found


def demo(words: list[str], environment: dict[str, str]) -> None:
    """Run it to its end; when we are ended, it is asked to stop what it started."""
    argv = [sys.executable, "-m", "local", "demo", *words]
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=sys.stderr)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    assert code == 0, f"the demo ended with exit code {code}"


def dig(document: dict[str, Any], path: tuple[str, ...]) -> float:
    """The number at the end of a path of keys."""
    inner: Any = document
    for step in path:
        inner = inner[step]
    return float(inner)
