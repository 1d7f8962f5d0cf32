"""Parquet: one chunk a row group, read in batches. Days and times keep their type, all else becomes text."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from schemas.dataset import Dataset
from schemas.envelope import to_json
from schemas.rows import CellFault, Chunk, Parsed, RefusedFileError, cut
from sources.parsers.header import IGNORED, matched
from sources.parsers.native import fits, written

_BATCH_ROWS = 65_536
_GROUP_ROWS = 10_000_000


def split(path: Path, dataset: Dataset, _scratch: Path) -> Iterator[Chunk]:
    """The row groups of a file, their columns found by name."""
    with _opened(path) as file:
        schema, meta = file.schema_arrow, file.metadata
    names = matched(schema.names, dataset)
    for place, column in enumerate(names):
        if column != IGNORED and not fits(schema.field(place).type, dataset.column(column)):
            raise RefusedFileError("unfit_type", 0, f"column {place + 1}")
    rows = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    if max(rows, default=0) > _GROUP_ROWS:
        raise RefusedFileError("too_large_group")
    first = 1
    for group, count in enumerate(rows):
        yield Chunk(str(path), "parquet", group, group, count, first, names)
        first += count


def _opened(path: Path) -> parquet.ParquetFile:
    if not path.stat().st_size:
        raise RefusedFileError("empty_file")
    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise RefusedFileError("malformed_parquet") from error


def read(chunk: Chunk, dataset: Dataset) -> Iterator[Parsed]:
    """The rows of a row group, some ten thousand at a time. Raises RefusedFileError where it is broken."""
    first = chunk.first
    with _opened(Path(chunk.path)) as file:
        batches = file.iter_batches(_BATCH_ROWS, row_groups=[chunk.offset], use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise RefusedFileError("malformed_parquet", first) from error
            if batch is None:
                return
            yield _parsed(batch, first, chunk.names, dataset)
            first += batch.num_rows


def _parsed(batch: pa.RecordBatch, first: int, names: Sequence[str], dataset: Dataset) -> Parsed:
    cells: list[CellFault] = []
    columns = {
        name: written(batch.column(place), dataset.column(name), dataset.dialect, cells)
        for place, name in enumerate(names)
        if name != IGNORED
    }
    lines = pa.array(range(first, first + batch.num_rows), pa.int64())
    return Parsed(lines, columns, _Raw(columns), cells)


class _Raw:
    """Rows as JSON, when they are asked for."""

    def __init__(self, columns: dict[str, pa.Array]) -> None:
        self.columns = columns

    def __call__(self, rows: Sequence[int]) -> list[bytes]:
        asked = pa.table(self.columns).take(pa.array(rows, pa.int64())).to_pylist()
        return [cut(to_json(row).encode()) for row in asked]
