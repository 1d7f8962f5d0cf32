"""Chunks of a file → staged rows (schemas/tables.py, STAGED_COLUMNS). Runs in Spark's Python workers.

A broken file comes back as a row, not as a fault: Spark would try the task again, and log its text.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
from pyspark import Accumulator

from headwater.errors import HeadwaterError
from headwater.worker import forget_archives
from jobs.file_rows import chunk_rows
from schemas.dataset import Dataset
from schemas.rows import Chunk, RefusedFileError
from transformations.rows import Judged

_TEXT = pa.string()
_REASONS = pa.list_(pa.struct([(name, _TEXT) for name in ("code", "rule", "field", "message")]))
SCHEMA = pa.schema(
    [
        ("member", pa.int32()),
        ("line", pa.int64()),
        ("content_hash", _TEXT),
        ("data", _TEXT),
        ("reasons", _REASONS),
        ("raw", pa.binary()),
        ("read", pa.int64()),
        ("refused", _TEXT),
    ]
)


@dataclass(frozen=True)
class Part:
    """A chunk, and which file of an archive it is of, from 0."""

    member: int
    chunk: Chunk


@dataclass(frozen=True)
class Stage:
    """What a Python worker does with the numbers of parts. Made on the driver, it travels with the task."""

    parts: tuple[Part, ...]
    dataset: Dataset
    max_raw_row: int
    rows_read: "Accumulator[int]"

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        forget_archives()
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield from self._staged(self.parts[number])

    def _staged(self, part: Part) -> Iterator[pa.RecordBatch]:
        for rows in staged_rows(part, self.dataset, self.max_raw_row):
            self.rows_read.add(sum(filter(None, rows.column("read").to_pylist())))
            yield rows


def staged_rows(part: Part, dataset: Dataset, max_raw_row: int) -> Iterator[pa.RecordBatch]:
    """The staged rows of a chunk: valid, then invalid, then the count."""
    try:
        for judged in chunk_rows(part.chunk, dataset):
            yield from _batches(part.member, judged, max_raw_row)
    except RefusedFileError as refused:
        yield _block(part.member, 1, line=[refused.line], refused=[refused.code])
    except HeadwaterError:
        raise
    except Exception as fault:  # its text may quote a row, and Spark would log it
        raise HeadwaterError(f"a chunk cannot be read: {type(fault).__name__}") from None


def _batches(member: int, judged: Judged, max_raw_row: int) -> Iterator[pa.RecordBatch]:
    for batch in judged.valid.to_batches():
        columns = {name: batch.column(name) for name in batch.schema.names}
        yield _block(member, batch.num_rows, **columns)
    invalid = list(_by_line(judged.errors.to_pylist(), max_raw_row))
    if invalid:
        lines, reasons, raws = zip(*invalid, strict=True)
        yield _block(member, len(invalid), line=lines, reasons=reasons, raw=raws)
    yield _block(member, 1, read=[judged.counts.read])


def _by_line(
    errors: list[dict[str, Any]], max_raw_row: int
) -> Iterator[tuple[int, list[dict[str, str | None]], bytes | None]]:
    """One row for each line, with all that is wrong with it."""
    for line, found in groupby(errors, itemgetter("line")):
        reasons = list(found)
        raw = next((reason["raw"] for reason in reasons if reason["raw"] is not None), None)
        yield line, [_reason(reason) for reason in reasons], None if raw is None else kept(raw, max_raw_row)


def _reason(error: dict[str, Any]) -> dict[str, str | None]:
    code = error["code"]
    rule = code.removeprefix("rule:") if code.startswith("rule:") else None
    return {"code": code, "rule": rule, "field": error["column"] or "", "message": error["message"]}


def kept(raw: bytes, characters: int) -> bytes:
    """The first so many characters of a row; a byte that is none counts as one, and stays as it is."""
    text = raw[: 4 * characters].decode("utf-8", "surrogateescape")
    return text[:characters].encode("utf-8", "surrogateescape")


def _block(member: int, rows: int, **columns: pa.Array | Sequence[Any]) -> pa.RecordBatch:
    """So many rows of one kind: null in all that is not given."""
    arrays = [
        pa.nulls(rows, field.type) if field.name not in columns else _array(columns[field.name], field.type)
        for field in SCHEMA
    ]
    arrays[0] = pa.repeat(pa.scalar(member, pa.int32()), rows)
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _array(given: pa.Array | Sequence[Any], kind: pa.DataType) -> pa.Array:
    return given if isinstance(given, pa.Array) else pa.array(given, kind)
