"""Files → staged rows, before anything else is written.

Large files are judged by Spark's workers and staged in a Delta table of the attempt. A small one is judged on
the driver and stays there: for it alone Spark's jobs would take longer than all the rest.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pyarrow as pa
from pyspark import Accumulator

from headwater.errors import SetupError
from headwater.execution import busy
from headwater.failpoints import fail_at, fail_during
from headwater.files import folders, local_folders
from headwater.log import logger
from headwater.tables import append_once, ensure_table, forget_table, read_table
from jobs.file_rows import file_chunks
from jobs.import_outcomes import UnfitOptionsError
from jobs.import_staged import Staged, StagedHere, StagedInDelta
from jobs.import_tasks import SCHEMA, Part, Stage, staged_rows
from jobs.queries import Context
from schemas.dataset import Dataset, dataset, read_as
from schemas.rows import Chunk
from schemas.tables import STAGED_COLUMNS, STAGING, staging
from sources.import_jobs import Job
from sources.scratch import Readable
from sources.sniff import PARQUET

QUERY = "import-files"
_log = logger(__name__)
# So much of a file is judged on the driver. A row of Parquet counts as so many bytes.
SMALL_BYTES = 1 << 20
PARQUET_ROW_BYTES = 64
FEW_BYTES = 64 << 20  # of staged rows
# Chunks of 4 MiB in a task: a file of the staging table each.
CHUNKS_A_TASK = 16


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
    """Stages the parts of one attempt."""

    def __init__(self, context: Context, name: str) -> None:
        self._context = context
        self._name = name
        self._rows_read: Accumulator[int] | None = None

    @property
    def rows_read(self) -> int:
        """Grows while tasks end; one that is repeated is counted twice, so this is for looking at only."""
        return self._rows_read.value if self._rows_read else 0

    @contextmanager
    def staged(self, parts: tuple[Part, ...], of: Dataset, max_raw_row: int) -> Iterator[Staged]:
        """The staged rows of a file, for as long as the block runs."""
        small = sum(_weight(part.chunk) for part in parts) <= SMALL_BYTES
        if small and (rows := _few(parts, of, max_raw_row)) is not None:
            fail_at(QUERY, "task")
            yield StagedHere(self._context, rows)
            return
        spark = self._context.spark.sparkContext
        self._rows_read = spark.accumulator(0)
        spark.addJobTag(self._name)
        try:
            yield self._in_delta(Stage(parts, of, max_raw_row, self._rows_read))
        finally:
            spark.removeJobTag(self._name)
            self._forget()

    def _forget(self) -> None:
        """A table that stays is swept later: it must not hide how the attempt ended."""
        try:
            forget_table(self._context.spark, self._context.settings, staging(self._name).full_name)
        except Exception as fault:  # Spark's, Delta's, the disk's
            _log.warning("staging_not_dropped", table=self._name, why=type(fault).__name__)

    def interrupt(self) -> None:
        """End the jobs of Spark's that are at work on the rows."""
        if self._rows_read is not None:
            self._context.spark.sparkContext.cancelJobsWithTag(self._name)

    def _in_delta(self, work: Stage) -> Staged:
        spark, settings, table = self._context.spark, self._context.settings, staging(self._name)
        forget_table(spark, settings, table.full_name)
        ensure_table(spark, settings, table)
        tasks = -(-len(work.parts) // CHUNKS_A_TASK)
        at_least = min(len(work.parts), spark.sparkContext.defaultParallelism)
        numbers = spark.range(0, len(work.parts), 1, max(tasks, at_least))
        fail_during(QUERY, "task", lambda: busy(spark))
        append_once(numbers.mapInArrow(work, STAGED_COLUMNS), settings, table.full_name, self._name, 0)
        return StagedInDelta(self._context, read_table(spark, settings, table.full_name))


def _few(parts: tuple[Part, ...], of: Dataset, max_raw_row: int) -> pa.Table | None:
    """Staged rows; None when they are more than the driver should hold, as a small file of Parquet may be."""
    batches, size = [], 0
    for batch in chain.from_iterable(staged_rows(part, of, max_raw_row) for part in parts):
        batches.append(batch)
        size += batch.nbytes
        if size > FEW_BYTES:
            return None
    return pa.Table.from_batches(batches, SCHEMA)


def sweep_staging(context: Context, orphans: Callable[[Iterable[str]], Collection[str]]) -> int:
    """Remove the tables that `orphans` picks from their names: how many."""
    root = f"{context.settings.lake_root}/{STAGING}"
    found = folders(context.spark, root) if context.settings.lake_is_remote else local_folders(root)
    old = orphans(found)
    for name in old:
        forget_table(context.spark, context.settings, staging(name).full_name)
    return len(old)


def _weight(chunk: Chunk) -> int:
    return chunk.length * PARQUET_ROW_BYTES if chunk.format == PARQUET else chunk.length
