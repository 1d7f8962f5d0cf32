"""A local file → its chunks; a chunk → valid rows, errors, counts. What a job hands to its tasks.

reads a file that is unpacked and stays where it is until all chunks are read; writes nothing but a copy in
UTF-8 of a file in another encoding. Safe to run again: the same file gives the same chunks and rows.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from headwater.errors import SetupError
from schemas.dataset import Dataset
from schemas.rows import Chunk
from sources.parsers import PARSERS, Parser
from transformations.rows import Judge, Judged, judge_rows

_DATASETS_REMEMBERED = 16


def file_chunks(path: Path, format_name: str, dataset: Dataset, scratch: Path) -> Iterator[Chunk]:
    """The chunks of a file, in its order. They can be pickled, and read in any order and at once.

    Raises RefusedFileError before the first of them when no row can be read rightly, SetupError for an
    unknown format.
    """
    return _parser(format_name).split(path, dataset, scratch)


def chunk_rows(chunk: Chunk, dataset: Dataset) -> Iterator[Judged]:
    """What becomes of the rows of a chunk, in parts that fit into memory (one, but of Parquet).

    Raises RefusedFileError when a Parquet file turns out to be broken in this chunk.
    """
    return map(_judge(dataset), _parser(chunk.format).read(chunk, dataset))


def _parser(format_name: str) -> Parser:
    if format_name not in PARSERS:
        raise SetupError(f"format {format_name!r} is not known; known: {', '.join(PARSERS)}")
    return PARSERS[format_name]


@lru_cache(maxsize=_DATASETS_REMEMBERED)
def _judge(dataset: Dataset) -> Judge:
    """Compiled once in a process, not once for each chunk."""
    return judge_rows(dataset)
