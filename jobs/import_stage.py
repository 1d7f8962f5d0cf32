"""Files → staged rows, as a DataFrame that can be read several times, before anything else is written.

Large files are judged by Spark's workers and staged in a Delta table of the attempt. A small one is judged on
the driver and stays there: for it alone a job of Spark's would take longer than all the rest.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pyarrow as pa
from pyspark import Accumulator
from pyspark.sql import DataFrame, SparkSession

from headwater.errors import SetupError
from headwater.execution import busy
from headwater.failpoints import fail_at, fail_during
from headwater.files import folders
from headwater.settings import Settings
from headwater.tables import append_once, append_rows, ensure_table, forget_table, read_table
from jobs.file_rows import file_chunks
from jobs.import_outcomes import UnfitOptionsError
from jobs.import_tasks import SCHEMA, Part, Stage, staged_rows
from schemas.dataset import Dataset, dataset, read_as
from schemas.rows import Chunk
from schemas.tables import STAGED_COLUMNS, STAGING, staging
from sources.import_jobs import Job
from sources.landing.base import ABANDONED
from sources.scratch import Readable
from sources.sniff import PARQUET

QUERY = "import-files"
# So much of a file is judged on the driver. A row of Parquet counts as so many bytes.
SMALL_BYTES = 1 << 20
PARQUET_ROW_BYTES = 64
# Chunks of 4 MiB in a task: a file of the staging table each.
CHUNKS_A_TASK = 16


@dataclass(frozen=True)
class Staged:
    """Rows of STAGED_COLUMNS. `few`: so few that they are on the driver."""

    rows: DataFrame
    few: bool

    def append(self, rows: DataFrame, settings: Settings, full_name: str, application: str) -> None:
        """Append what was made of them to a table, once for this application."""
        if self.few:
            append_rows(rows.sparkSession, rows.toArrow(), settings, full_name, (application, 0))
        else:
            append_once(rows, settings, full_name, application, 0)


def dataset_of(job: Job) -> Dataset:
    """What the rows of a job's file are, and how they are written."""
    try:
        return read_as(dataset(job.dataset), job.options)
    except SetupError as fault:
        raise UnfitOptionsError(str(fault)) from None


def parts_of(
    files: list[Readable], of: Dataset, scratch: Path, check: Callable[[], None]
) -> tuple[Part, ...]:
    """The chunks of all files; `check` is asked at each. RefusedFileError for a file that cannot be read."""
    parts = []
    for member, file in enumerate(files):
        for chunk in file_chunks(file.path, file.format, of, scratch):
            check()
            parts.append(Part(member, chunk))
    return tuple(parts)


class Stager:
    """Stages the parts of one attempt. `rows_read` grows while tasks end; a task that is repeated is counted
    twice there, so it is for looking at only."""

    def __init__(self, spark: SparkSession, settings: Settings, name: str) -> None:
        self._spark, self._settings = spark, settings
        self._table = staging(name)
        self.rows_read: Accumulator[int] = spark.sparkContext.accumulator(0)

    @contextmanager
    def staged(self, parts: tuple[Part, ...], of: Dataset, max_raw_row: int) -> Iterator[Staged]:
        """The staged rows of a file, for as long as the block runs."""
        if sum(_weight(part.chunk) for part in parts) <= SMALL_BYTES:
            fail_at(QUERY, "task")
            batches = chain.from_iterable(staged_rows(part, of, max_raw_row) for part in parts)
            rows = pa.Table.from_batches(batches, SCHEMA)
            yield Staged(self._spark.createDataFrame(rows, STAGED_COLUMNS), few=True)
            return
        try:
            yield self._in_delta(Stage(parts, of, max_raw_row, self.rows_read))
        finally:
            forget_table(self._spark, self._settings, self._table.full_name)

    def _in_delta(self, work: Stage) -> Staged:
        name = self._table.full_name
        forget_table(self._spark, self._settings, name)
        ensure_table(self._spark, self._settings, self._table)
        tasks = -(-len(work.parts) // CHUNKS_A_TASK)
        at_least = min(len(work.parts), self._spark.sparkContext.defaultParallelism)
        numbers = self._spark.range(0, len(work.parts), 1, max(tasks, at_least))
        fail_during(QUERY, "task", lambda: busy(self._spark))
        append_once(numbers.mapInArrow(work, STAGED_COLUMNS), self._settings, name, name, 0)
        return Staged(read_table(self._spark, self._settings, name), few=False)


def sweep_staging(spark: SparkSession, settings: Settings, older: timedelta = ABANDONED) -> int:
    """Remove the tables of workers that were killed a while ago: how many."""
    found = folders(spark, f"{settings.lake_root}/{STAGING}")
    old = [name for name, changed in found.items() if changed < time.time() - older.total_seconds()]
    for name in old:
        forget_table(spark, settings, staging(name).full_name)
    return len(old)


def _weight(chunk: Chunk) -> int:
    return chunk.length * PARQUET_ROW_BYTES if chunk.format == PARQUET else chunk.length
