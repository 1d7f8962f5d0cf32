"""Rows of a Delta table's files, without Spark, in the columns' declared types."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import DeltaError

from headwater.errors import TransientError
from headwater.lake_files import Files


def rows_of(files: Files, path: str, columns: pa.Schema, batch_rows: int) -> Iterator[pa.Table]:
    """These columns of one file, so many rows at a time; a column that the file does not have is null."""
    with files.open(path) as file:
        there = [name for name in columns.names if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_rows, columns=there):
            yield _typed(batch, columns)


def _typed(batch: pa.RecordBatch, columns: pa.Schema) -> pa.Table:
    """What delta-rs has written holds texts as views, which filters and groups do not take."""
    there = batch.schema.names
    arrays = [
        batch.column(name).cast(kind) if name in there else pa.nulls(batch.num_rows, kind)
        for name, kind in zip(columns.names, columns.types, strict=True)
    ]
    return pa.table(arrays, schema=columns)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Faults of the lake become TransientError, by their kind: their text may quote a path or a value."""
    try:
        yield
    except (OSError, pa.ArrowException, DeltaError) as fault:
        raise TransientError(f"{what} cannot be read now ({type(fault).__name__})") from fault
