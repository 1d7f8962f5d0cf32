"""Parquet: one chunk a row group, read in batches. Days and times keep their type, all else becomes text.

A few bytes of a file may say the same long text in a million rows. So texts are read as the numbers of their
values, and written out some at a time.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from schemas.contract import ROW_LIMIT_BYTES
from schemas.dataset import Dataset
from schemas.envelope import to_json
from schemas.rows import CellFault, Chunk, Parsed, RefusedFileError, RowFault, cut
from sources.parsers.header import IGNORED, matched
from sources.parsers.native import fits, written

_BATCH_ROWS = 65_536
_BATCH_CELLS = 2_000_000
_BATCH_BYTES = 64 << 20  # of texts that are written out
_GROUP_ROWS = 10_000_000
_GROUP_BYTES = 4 << 30
_DELTA = "DELTA_BYTE_ARRAY"


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


def _opened(path: Path, numbered: Sequence[str] = ()) -> parquet.ParquetFile:
    """The file; columns that are `numbered` are read as numbers of their values."""
    if not path.stat().st_size:
        raise RefusedFileError("empty_file")
    try:
        return parquet.ParquetFile(path, read_dictionary=list(numbered))
    except (pa.ArrowException, OSError) as error:
        raise RefusedFileError("malformed_parquet") from error


def read(chunk: Chunk, dataset: Dataset) -> Iterator[Parsed]:
    """The rows of a row group, some ten thousand at a time. Raises RefusedFileError where it is broken."""
    first, size = chunk.first, 0
    with _opened(Path(chunk.path)) as file:
        group = file.metadata.row_group(chunk.offset)
        texts = {field.name for field in file.schema_arrow if _is_text(field.type)}
    numbered = [
        column.path_in_schema
        for column in _columns(group)
        if column.path_in_schema in texts and _shares(column)
    ]
    rows = _batch_rows(group, numbered)
    with _opened(Path(chunk.path), numbered) as file:
        batches = file.iter_batches(rows, row_groups=[chunk.offset], use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise RefusedFileError("malformed_parquet", first) from error
            if batch is None:
                return
            sizes = _sizes(batch)
            size += int(sizes.sum())
            if size > _GROUP_BYTES:
                raise RefusedFileError("too_large_group", first)
            for part in _parts(batch, sizes):
                yield _parsed(part, first, chunk.names, dataset)
                first += part.num_rows


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary())


def _columns(group: parquet.RowGroupMetaData) -> list[parquet.ColumnChunkMetaData]:
    return [group.column(place) for place in range(group.num_columns)]


def _shares(column: parquet.ColumnChunkMetaData) -> bool:
    """Whether rows refer to a list of values, all of them."""
    return any("DICTIONARY" in way for way in column.encodings) and _DELTA not in column.encodings


def _batch_rows(group: parquet.RowGroupMetaData, numbered: Sequence[str]) -> int:
    """So many rows are read at once. Texts that are not numbered stand in the file one by one, but for those
    that are nested, or told by what they have in common with the one before: of these each may be as long as
    the whole column.
    """
    rows = min(_BATCH_ROWS, _BATCH_CELLS // max(int(group.num_columns), 1))
    for column in _columns(group):
        if column.physical_type == "BYTE_ARRAY" and column.path_in_schema not in numbered:
            size = int(column.total_uncompressed_size)
            alone = not _shares(column) and _DELTA not in column.encodings
            a_row = size // max(int(group.num_rows), 1) if alone else size
            rows = min(rows, _BATCH_BYTES // max(a_row, 1))
    return max(rows, 1)


def _sizes(batch: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The bytes of each row's numbered texts, written out."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.binary_length(column.dictionary).cast(pa.int64())
            sizes += pc.fill_null(lengths.take(column.indices), 0).to_numpy(zero_copy_only=False)
    return sizes


def _parts(
    batch: pa.RecordBatch, sizes: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Iterator[pa.RecordBatch]:
    """The rows in order, as many at once as are some megabytes, their texts written out."""
    numbers = np.cumsum(sizes) // _BATCH_BYTES
    bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), batch.num_rows]
    for begin, end in pairwise(bounds):
        part = batch.slice(begin, end - begin)
        columns = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for column in part.columns
        ]
        yield pa.RecordBatch.from_arrays(columns, names=part.schema.names)


def _parsed(batch: pa.RecordBatch, first: int, names: Sequence[str], dataset: Dataset) -> Parsed:
    cells: list[CellFault] = []
    columns = {
        name: written(batch.column(place), dataset.column(name), dataset.dialect, cells)
        for place, name in enumerate(names)
        if name != IGNORED
    }
    lines = pa.array(range(first, first + batch.num_rows), pa.int64())
    parsed = Parsed(lines, columns, _Raw(columns), cells)
    long = _row_bytes(parsed) > ROW_LIMIT_BYTES
    return _without(parsed, long) if long.any() else parsed


def _row_bytes(parsed: Parsed) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    sizes = np.zeros(len(parsed.lines), np.int64)
    for column in parsed.columns.values():
        if column.type == pa.string():
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
    return sizes


def _without(parsed: Parsed, long: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Parsed:
    """The rows that are not too long; the others are faults."""
    rows, places = np.flatnonzero(long).tolist(), np.cumsum(~long) - 1
    faults = [
        RowFault(parsed.lines[row].as_py(), None, "row_too_long", raw)
        for row, raw in zip(rows, parsed.raw(rows), strict=True)
    ]
    kept = pa.array(~long)
    columns = {name: column.filter(kept) for name, column in parsed.columns.items()}
    cells = [cell._replace(row=int(places[cell.row])) for cell in parsed.cell_faults if not long[cell.row]]
    return Parsed(parsed.lines.filter(kept), columns, _Raw(columns), cells, faults)


class _Raw:
    """Rows as JSON, when they are asked for."""

    def __init__(self, columns: dict[str, pa.Array]) -> None:
        self.columns = columns

    def __call__(self, rows: Sequence[int]) -> list[bytes]:
        asked = pa.table(self.columns).take(pa.array(rows, pa.int64())).to_pylist()
        return [cut(to_json(row).encode()) for row in asked]
