"""A text file → chunks of whole records, block by block: a record that is longer than a block is skipped."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO, NamedTuple

from schemas.contract import ROW_LIMIT_BYTES
from schemas.rows import Chunk
from sources.parsers.base import CHUNK_BYTES, count_lines

# (bytes that begin with a record, whether they end the file) → bytes and lines of whole records in them
Measure = Callable[[bytes, bool], tuple[int, int]]


class Start(NamedTuple):
    """Where the first record is: its byte and its line."""

    offset: int
    line: int


def line_chunks(
    file: BinaryIO, start: Start, like: Chunk, measure: Measure, size: int = CHUNK_BYTES
) -> Iterator[Chunk]:
    """Chunks that are `like` this one, of about `size` bytes.

    A line that is longer than a record may be is a chunk of its own, a fault as a whole, and never in memory.
    """
    offset, line, number, pending = start.offset, start.line, 0, b""
    file.seek(offset)
    while True:
        block = file.read(size)
        final = len(block) < size
        data = pending + block
        consumed, lines = measure(data, final)
        if consumed:
            yield replace(like, number=number, offset=offset, length=consumed, first=line)
            number += 1
        offset, line, pending = offset + consumed, line + lines, data[consumed:]
        if final:
            return
        if len(pending) > ROW_LIMIT_BYTES:
            length, pending = _rest_of_line(file, pending, size)
            yield replace(like, number=number, offset=offset, length=length, first=line, fault="row_too_long")
            number, offset, line = number + 1, offset + length, line + 1


def _rest_of_line(file: BinaryIO, begun: bytes, size: int) -> tuple[int, bytes]:
    """How long a line is that has begun, its end with it, and what was read behind it."""
    length, block = 0, begun
    while (end := block.find(b"\n")) < 0:
        length += len(block)
        block = file.read(size)
        if not block:
            return length, b""
    return length + end + 1, block[end + 1 :]


def whole_lines(data: bytes, final: bool) -> tuple[int, int]:
    """Measures records that are lines."""
    consumed = len(data) if final else data.rfind(b"\n") + 1
    return consumed, count_lines(data[:consumed])
