"""A JSON array of objects, streamed: its elements are found by a tokeniser, and each is read as a document.

The tokeniser knows strings and brackets only. What is wrong inside of an element is that element's fault; an
element whose brackets or quotes never close takes all that follows with it, which is one fault, `cut_off`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from schemas.contract import ROW_LIMIT_BYTES
from schemas.dataset import Dataset
from schemas.rows import Chunk, Parsed, RefusedFileError
from sources.encoding import utf8_file
from sources.parsers.base import CHUNK_BYTES, content, whole_fault
from sources.parsers.documents import Documents
from sources.parsers.elements import (
    BLANK,
    Whole,
    quick_whole_elements,
    raws_of,
    scan,
    skipped,
    whole_elements,
)


def split(path: Path, dataset: Dataset, scratch: Path, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The chunks of an array: elements with the commas between them."""
    text = utf8_file(path, dataset.dialect.encoding, scratch)
    with Path(text.path).open("rb") as file:
        begin = _opened(file, text.offset)
        yield from _Splitter(file, Chunk(text.path, "json", 0, begin, 0, 1), size).chunks()


def _opened(file: BinaryIO, offset: int) -> int:
    """Where the first element may begin, behind the opening bracket."""
    file.seek(offset)
    while block := file.read(CHUNK_BYTES):
        found = block.lstrip(BLANK)
        if found.startswith(b"["):
            return offset + len(block) - len(found) + 1
        if found:
            raise RefusedFileError("not_an_array", 1)
        offset += len(block)
    raise RefusedFileError("empty_file")


class _Splitter:
    """Chunks of about `size` bytes, each like `next`, which moves on behind it."""

    def __init__(self, file: BinaryIO, first: Chunk, size: int) -> None:
        self.file, self.next, self.size = file, first, size
        self.file.seek(first.offset)

    def chunks(self) -> Iterator[Chunk]:
        data = b""
        while True:
            block = self.file.read(self.size)
            final = len(block) < self.size
            data += block
            found = (None if final else quick_whole_elements(data)) or whole_elements(data)
            if found.number and not self._is_empty(found, data):
                yield self._chunk(found.length)
            self._move(found.behind, found.number)
            data = data[found.behind :]
            if found.closed:
                yield from self._trailing(data)
                return
            if final:
                yield self._chunk(len(data), "cut_off")
                return
            if len(data) > ROW_LIMIT_BYTES:
                length, data, ends = skipped(self.file, data, self.size)
                yield self._chunk(length, "row_too_long" if ends else "cut_off")
                if not ends:
                    return
                self._move(length + 1, 1)
                closed, data = data[:1] != b",", data[1:]
                if closed:
                    yield from self._trailing(data)
                    return

    def _is_empty(self, found: Whole, data: bytes) -> bool:
        """An array without any element, not even a wrong one."""
        return found.closed and self.next.first == found.number == 1 and not data[: found.length].strip(BLANK)

    def _chunk(self, length: int, fault: str | None = None) -> Chunk:
        return replace(self.next, length=length, fault=fault)

    def _move(self, length: int, count: int) -> None:
        place = self.next
        self.next = replace(
            place, number=place.number + 1, offset=place.offset + length, first=place.first + count
        )

    def _trailing(self, data: bytes) -> Iterator[Chunk]:
        """What follows the array: one fault, unless it is blank."""
        length, is_blank = len(data), not data.strip(BLANK)
        while block := self.file.read(self.size):
            length += len(block)
            is_blank = is_blank and not block.strip(BLANK)
        if not is_blank:
            yield self._chunk(length, "malformed_json")


def read(chunk: Chunk, dataset: Dataset) -> Iterator[Parsed]:
    """The rows of a chunk."""
    data = content(chunk)
    if chunk.fault:
        yield whole_fault(chunk, data)
        return
    # Nothing between two commas is an element, which is empty, and none of JSON's.
    raws = raws_of(data) if data.strip(BLANK) else None
    if raws is None:
        raws = [data[start:end].strip(BLANK) for start, end in scan(data + b",").elements]
    yield from Documents(dataset).parsed(raws, range(chunk.first, chunk.first + len(raws)))
