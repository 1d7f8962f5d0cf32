"""The one Spark session of a job, with every setting that streams on Delta need."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from py4j.java_gateway import java_import
from pyspark.sql import SparkSession

from headwater.clock import keep_to_utc
from headwater.errors import SetupError
from headwater.files import plain_local_files
from headwater.settings import ROOT, Settings

# A driver of micro-batches runs a great deal of code a few times each. The optimising compiler would spend a
# third of two cores on it for many minutes; it waits until code is ten times as hot as by default.
_PATIENT_JIT = (
    "-XX:ReservedCodeCacheSize=512m -XX:Tier4InvocationThreshold=40000 -XX:Tier4MinInvocationThreshold=6000"
    " -XX:Tier4CompileThreshold=100000 -XX:Tier4BackEdgeThreshold=600000"
)

# Classes fill it soon: below this no collection of the whole heap is made for their sake.
_ROOM = "-XX:MetaspaceSize=512m"

# Spark asks for nulls itself, and reads only what it has been sent: Arrow need not check each access again.
_TRUSTING_ARROW = "-Darrow.enable_unsafe_memory_access=true -Darrow.enable_null_check_for_get=false"

# What PySpark asks for by its last name with every few calls: Py4J would try eight packages for it each time,
# and Java look through all jars for each that it is not in.
_LOOKED_UP = [
    "org.apache.spark.api.python.PythonUtils",
    "org.apache.spark.api.python.SimplePythonFunction",
    "org.apache.spark.sql.api.python.PythonSQLUtils",
    "org.apache.spark.sql.api.python.ArrowIteratorServer",
]

_PARQUET = {
    # A dictionary is tried for every column, and most of ours say something new in every row: they are given
    # up after some thousand rows instead of tens of thousands, each of which was hashed in vain.
    "spark.hadoop.parquet.dictionary.page.size": "65536",
    # Histograms of nesting that nothing here reads.
    "spark.hadoop.parquet.size.statistics.enabled": "false",
    # INT96, the default, has no statistics, is not read by all, and takes longer.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}

_READ_ON = "unsafeReadOnIncompatibleSchemaChangesDuringStreamStart"

# The other way of making a file whole or not at all, by FileContext, runs eight processes for it.
_LOCAL_FILES = {
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
    "spark.hadoop.fs.AbstractFileSystem.file.impl": "org.apache.hadoop.fs.local.RawLocalFs",
    # The files of a table are not said again beside every commit: delta-rs, which commits too, says none, and
    # Spark would run a job to find them.
    "spark.databricks.delta.allFilesInCrc.enabled": "false",
    # Streams read on when `jobs migrate` has given a column a wider type: what they had not read by then is
    # read in the wider type (headwater/widen.py).
    f"spark.databricks.delta.streaming.{_READ_ON}.enabled": "true",
}

# What goes from one stage to the next stays on the machine: its disk's cache has more room than its cores
# have time.
_ONE_MACHINE = {"spark.shuffle.compress": "false"}


def build_session(settings: Settings, app: str) -> SparkSession:
    """A session with Delta, RocksDB state and UTC. Jars come from settings.spark.jars, on the class path."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    keep_to_utc()
    builder = SparkSession.builder.appName(app)
    if settings.spark.master:
        builder = builder.master(settings.spark.master)
    for key, value in {**defaults(settings), **settings.spark.conf}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("WARN")
    for name in _LOOKED_UP:
        java_import(cast(Any, spark._jvm), name)  # noqa: SLF001 - no public way into the JVM
    if not settings.lake_is_remote:
        plain_local_files(spark)
    return spark


def class_archive(settings: Settings) -> Path | None:
    """Where the classes that a driver loads are archived, beside the jars that they are of."""
    return ROOT / settings.spark.jars / "driver.jsa" if settings.spark.jars else None


class DeferredSession:
    """A session that is built when something is first asked of it: who never asks starts no JVM."""

    def __init__(self, settings: Settings, app: str) -> None:
        self._build: Callable[[], SparkSession] = lambda: build_session(settings, app)
        self._built: SparkSession | None = None

    def __getattr__(self, name: str) -> Any:
        """As the session itself."""
        self._built = self._built or self._build()
        return getattr(self._built, name)

    def stop(self) -> None:
        """Stop it if it was built."""
        if self._built is not None:
            self._built.stop()


def defaults(settings: Settings) -> dict[str, str]:
    """Spark's settings of a session; `spark.conf` overrules them."""
    local = {} if settings.lake_is_remote else _LOCAL_FILES
    alone = _ONE_MACHINE if _is_one_machine(settings) else {}
    by_settings = {**_streaming(settings), **_runtime(settings), **_jars(settings)}
    return {**_delta(), **_PARQUET, **local, **alone, **by_settings}


def _delta() -> dict[str, str]:
    return {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        # The default of 50 tasks to read a table's log costs seconds a batch on a small machine.
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.databricks.delta.optimizeWrite.enabled": "false",
        "spark.databricks.delta.autoCompact.enabled": "false",
        "spark.databricks.delta.history.metricsEnabled": "false",
    }


def _streaming(settings: Settings) -> dict[str, str]:
    state = "org.apache.spark.sql.execution.streaming.state"
    rocksdb = settings.streams.state_store == "rocksdb"
    provider = "RocksDBStateStoreProvider" if rocksdb else "HDFSBackedStateStoreProvider"
    return {
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.streaming.stateStore.providerClass": f"{state}.{provider}",
        "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
        "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows": "false",
        # A batch without data would only move the watermark, and costs as much as one with.
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.stopTimeout": "60s",
        "spark.scheduler.mode": "FAIR",
    }


def _runtime(settings: Settings) -> dict[str, str]:
    archive = class_archive(settings)
    # An archive that does not fit is ignored, with a word on stderr: stdout is the job's.
    archived = f' "-XX:SharedArchiveFile={archive}" -Xlog:disable -Xlog:all=warning:stderr'
    everywhere = f"-Duser.timezone=UTC {_TRUSTING_ARROW}"
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.extraJavaOptions": f"{everywhere} -XX:+UseParallelGC {_ROOM} {_PATIENT_JIT}"
        f"{archived if archive and archive.exists() else ''}",
        "spark.executor.extraJavaOptions": everywhere,
        "spark.driver.memory": settings.spark.driver_memory,
        # A driver of many queries has more generated classes than the hundred that are kept by default: each
        # would be compiled again in every batch.
        "spark.sql.codegen.cache.maxEntries": "2000",
        "spark.sql.inMemoryColumnarStorage.compressed": "false",
        "spark.sql.adaptive.enabled": "false",
        # Records reach Python in Arrow batches that fit into memory however large each one is.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "5000",
        "spark.sql.execution.arrow.maxBytesPerBatch": "64m",
        "spark.ui.showConsoleProgress": "false",
        # Of a thousand statements, the default, all are sorted by age when one more has ended.
        "spark.sql.ui.retainedExecutions": "50",
        "spark.ui.retainedJobs": "100",
        "spark.ui.retainedStages": "100",
        # Each statement's plan is put into words for the user interface: in as few as there are.
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.debug.maxToStringFields": "8",
        "spark.python.worker.faulthandler.enabled": "true",
    }


def _jars(settings: Settings) -> dict[str, str]:
    """On the class path of a JVM of our own; sent to the executors of a cluster."""
    if not settings.spark.jars:
        return {}
    folder = ROOT / settings.spark.jars
    found = sorted(folder.glob("*.jar"))
    if not found:
        raise SetupError(f"no jars in {folder}: run `make setup`, or set spark.jars: null")
    on_path = {"spark.driver.extraClassPath": f"{folder}/*"}
    return on_path if _is_one_machine(settings) else {**on_path, "spark.jars": ",".join(map(str, found))}


def _is_one_machine(settings: Settings) -> bool:
    return settings.spark.master.startswith("local")
