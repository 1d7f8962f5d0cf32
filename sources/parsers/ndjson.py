"""NDJSON: a JSON object on each line. Blank lines are none."""

from collections.abc import Iterator
from pathlib import Path

from schemas.dataset import Dataset
from schemas.rows import Chunk, Parsed
from sources.encoding import utf8_file
from sources.parsers.base import CHUNK_BYTES, content, whole_fault
from sources.parsers.blocks import Start, line_chunks, whole_lines
from sources.parsers.documents import Documents

_BLANK = b" \t\r"


def split(path: Path, dataset: Dataset, scratch: Path, size: int = CHUNK_BYTES) -> Iterator[Chunk]:
    """The chunks of a file of lines."""
    text = utf8_file(path, dataset.dialect.encoding, scratch)
    like = Chunk(text.path, "ndjson", 0, 0, 0, 0)
    with Path(text.path).open("rb") as file:
        yield from line_chunks(file, Start(text.offset, 1), like, whole_lines, size)


def read(chunk: Chunk, dataset: Dataset) -> Iterator[Parsed]:
    """The rows of a chunk."""
    data = content(chunk)
    if chunk.fault:
        yield whole_fault(chunk, data)
        return
    lines = [line for line in enumerate(data.split(b"\n"), chunk.first) if line[1].strip(_BLANK)]
    numbers, raws = [number for number, _ in lines], [raw for _, raw in lines]
    yield from Documents(dataset).parsed(raws, numbers)
