"""CSV. Usual records are read by Arrow, by column; each that is in doubt exactly, on its own."""

import codecs
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from schemas.contract import ROW_LIMIT_BYTES
from schemas.dataset import COLUMNS_LIMIT, Dataset, Dialect
from schemas.rows import FIELD_LIMIT_BYTES, Chunk, Parsed, RefusedFileError, RowFault, cut
from sources.encoding import utf8_file
from sources.parsers.base import CHUNK_BYTES, content, whole_fault
from sources.parsers.blocks import Measure, Start, line_chunks, whole_lines
from sources.parsers.csv_record import fields_of
from sources.parsers.header import IGNORED, matched
from sources.parsers.records import Records, at_records, find_records

_LF, _CR = 10, 13
_FIRST_BROKEN, _LAST_BROKEN = 0xDC80, 0xDCFF  # what surrogateescape makes of bytes that are no UTF-8


def split(path: Path, dataset: Dataset, scratch: Path, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The chunks of a CSV file; the header is read here."""
    dialect = dataset.dialect
    text = utf8_file(path, dialect.encoding, scratch)
    with Path(text.path).open("rb") as file:
        file.seek(text.offset)
        head = file.read(ROW_LIMIT_BYTES)
        names, start = _header(head, dataset)
        like = Chunk(text.path, "csv", 0, 0, 0, 0, names)
        start = Start(text.offset + start.offset, start.line)
        yield from line_chunks(file, start, like, _measure(dialect), size)


def _header(head: bytes, dataset: Dataset) -> tuple[tuple[str, ...], Start]:
    """The columns, and where the rows begin."""
    dialect = dataset.dialect
    if dialect.header == "given" and not dataset.generic:
        return tuple(column.name for column in dataset.columns), Start(0, 1)
    records = find_records(head, dialect.delimiter, dialect.quote, final=True)
    if not records.starts.size:
        raise RefusedFileError("no_header" if head else "empty_file")
    first, line = head[records.starts[0] : records.ends[0]], int(records.lines[0]) + 1
    if first.count(dialect.delimiter.encode()) > COLUMNS_LIMIT * 2:
        raise RefusedFileError("too_many_columns", line)
    fields = fields_of(first, dialect, None)
    if records.broken[0] or not isinstance(fields, list):
        raise RefusedFileError("unreadable_header", line)
    if dialect.header == "given":
        return tuple(f"column_{place}" for place in range(1, len(fields) + 1)), Start(0, 1)
    end = head.find(b"\n", int(records.ends[0])) + 1
    lines_before = head[:end].count(b"\n")
    return matched(fields, dataset, line), Start(end or len(head), lines_before + 1)


def _measure(dialect: Dialect) -> Measure:
    quote = dialect.quote.encode() if dialect.quote else None

    def measure(data: bytes, final: bool) -> tuple[int, int]:
        if quote is None or quote not in data:
            return whole_lines(data, final)
        found = find_records(data, dialect.delimiter, dialect.quote, final)
        return found.consumed, found.lines_consumed

    return measure


def read(chunk: Chunk, dataset: Dataset) -> Iterator[Parsed]:
    """The rows of a chunk."""
    data = content(chunk)
    if chunk.fault:
        yield whole_fault(chunk, data)
        return
    dialect = dataset.dialect
    records = find_records(data, dialect.delimiter, dialect.quote, final=True)
    yield _Reading(chunk, dialect, data, records).parsed()


class _Quick(NamedTuple):
    """What Arrow has read: which records, and their columns in the file's order."""

    records: NDArray[np.int64]
    columns: list[pa.Array]


class _Reading:
    """One chunk being read."""

    def __init__(self, chunk: Chunk, dialect: Dialect, data: bytes, records: Records) -> None:
        self.chunk, self.dialect, self.data, self.records = chunk, dialect, data, records

    def parsed(self) -> Parsed:
        doubtful = self.records.broken.copy()
        for doubt in _doubts(self.data, self.records):
            doubtful[doubt] = True
        quick, left = self._quick(doubtful)
        faults, exact, fields = self._exact(left)
        rows, columns = quick.records, dict(_named(self.chunk.names, quick.columns))
        if exact:
            columns = _merged(columns, _columns(self.chunk.names, list(zip(*fields, strict=True))))
            rows = np.concatenate([rows, np.array(exact, np.int64)])
            order = np.argsort(rows, kind="stable")
            rows = rows[order]
            columns = {name: column.take(pa.array(order)) for name, column in columns.items()}
        lines = pa.array(self.records.lines[rows] + self.chunk.first)
        return Parsed(lines, columns, self._raw(rows), [], faults)

    def _quick(self, doubtful: NDArray[np.bool_]) -> tuple[_Quick, NDArray[np.int64]]:
        """What Arrow reads of the others, and the records that are left."""
        kept = np.flatnonzero(~doubtful)
        ragged: list[int] = []

        def skip(row: arrow_csv.InvalidRow) -> str:
            ragged.append(row.number - 1)
            return "skip"

        columns = self._arrow(self._usual(doubtful), skip) if kept.size else self._none()
        sound = np.delete(kept, ragged)
        if len(columns[0]) != sound.size:  # never seen: then nothing of it is trusted
            return _Quick(np.zeros(0, np.int64), self._none()), np.arange(doubtful.size)
        return _Quick(sound, columns), np.setdiff1d(np.arange(doubtful.size), sound, assume_unique=True)

    def _usual(self, doubtful: NDArray[np.bool_]) -> bytes:
        """The chunk without the doubtful records."""
        if not doubtful.any():
            return self.data
        edges = np.flatnonzero(np.diff(np.concatenate([[True], doubtful, [True]]).astype(np.int8)))
        runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        starts, ends = self.records.starts, self.records.ends
        return b"\n".join([self.data[starts[first] : ends[behind - 1]] for first, behind in runs])

    def _arrow(self, data: bytes, skip: Callable[[arrow_csv.InvalidRow], str]) -> list[pa.Array]:
        names = [str(place) for place in range(len(self.chunk.names))]
        table = arrow_csv.read_csv(
            pa.py_buffer(data),
            read_options=arrow_csv.ReadOptions(
                column_names=names, use_threads=False, block_size=len(data) + 1
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=self.dialect.delimiter,
                quote_char=self.dialect.quote or False,
                newlines_in_values=True,
                invalid_row_handler=skip,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), null_values=[], strings_can_be_null=False
            ),
        )
        return [_whole(table.column(place)) for place in range(len(names))]

    def _none(self) -> list[pa.Array]:
        return [pa.array([], pa.string()) for _ in self.chunk.names]

    def _exact(self, left: NDArray[np.int64]) -> tuple[list[RowFault], list[int], list[list[str]]]:
        """Of the records that are left: the faults, and those that have none with their fields."""
        faults, rows, fields = [], [], []
        for record in left.tolist():
            raw, line = self._record(record), int(self.records.lines[record]) + self.chunk.first
            found = fields_of(raw, self.dialect, len(self.chunk.names))
            if self.records.broken[record] and found[0] != "row_too_long":
                found = "broken_quotes", None
            if isinstance(found, list):
                rows.append(record)
                fields.append(found)
            else:
                code, place = found
                column = None if place is None else self.chunk.names[place] or f"column {place + 1}"
                faults.append(RowFault(line, column, code, cut(raw)))
        return faults, rows, fields

    def _record(self, record: int) -> bytes:
        return self.data[self.records.starts[record] : self.records.ends[record]]

    def _raw(self, rows: NDArray[np.int64]) -> Callable[[Sequence[int]], list[bytes]]:
        return lambda places: [cut(self._record(int(rows[place]))) for place in places]


def _doubts(data: bytes, records: Records) -> Iterator[int | NDArray[np.int64]]:
    """The records that Arrow and the exact reader might read differently."""
    yield np.flatnonzero(records.ends - records.starts > FIELD_LIMIT_BYTES)
    if not records.starts.size:
        return
    buffer = np.frombuffer(data, np.uint8)
    if codecs.BOM_UTF8 in data:  # Arrow leaves it out where it is the first to come
        yield np.flatnonzero(buffer[records.starts] == codecs.BOM_UTF8[0])
    if b"\0" in data:
        yield from at_records(records, np.flatnonzero(buffer == 0))
    if data.count(b"\r") != data.count(b"\r\n"):
        carriage = np.flatnonzero(buffer == _CR)
        behind = buffer[np.minimum(carriage + 1, buffer.size - 1)]
        yield from at_records(records, carriage[(behind != _LF) | (carriage == buffer.size - 1)])
    if not data.isascii():
        yield _broken_text(data, records)


def _broken_text(data: bytes, records: Records) -> NDArray[np.int64]:
    """The records on whose lines there is what is not UTF-8, and perhaps their neighbours."""
    try:
        data.decode()
        return np.zeros(0, np.int64)
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    broken = np.flatnonzero((letters >= _FIRST_BROKEN) & (letters <= _LAST_BROKEN))
    lines = np.searchsorted(np.flatnonzero(letters == _LF), broken)
    return np.unique(np.maximum(np.searchsorted(records.lines, lines, side="right") - 1, 0))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _named(names: Sequence[str], columns: Sequence[pa.Array]) -> Iterator[tuple[str, pa.Array]]:
    return ((name, column) for name, column in zip(names, columns, strict=True) if name != IGNORED)


def _columns(names: Sequence[str], fields: Sequence[Sequence[str]]) -> dict[str, pa.Array]:
    return dict(_named(names, [pa.array(column, pa.string()) for column in fields]))


def _merged(first: dict[str, pa.Array], second: dict[str, pa.Array]) -> dict[str, pa.Array]:
    return {name: pa.concat_arrays([column, second[name]]) for name, column in first.items()}
