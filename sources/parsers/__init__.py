"""Uploaded files → rows by column. A format is a file here and a line of PARSERS."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from schemas.dataset import Dataset
from schemas.rows import Chunk, Parsed
from sources.parsers import csv, json, ndjson, parquet


class Parser(NamedTuple):
    """One format. Both functions can be called wherever the file can be read.

    `split` (file, dataset, a folder for a copy in UTF-8) gives the chunks of a file in their order; it raises
    RefusedFileError before the first of them if no row can be read rightly. `read` gives the rows of a chunk
    in parts that fit into memory.
    """

    split: Callable[[Path, Dataset, Path], Iterator[Chunk]]
    read: Callable[[Chunk, Dataset], Iterator[Parsed]]


PARSERS: dict[str, Parser] = {
    "csv": Parser(csv.split, csv.read),
    "json": Parser(json.split, json.read),
    "ndjson": Parser(ndjson.split, ndjson.read),
    "parquet": Parser(parquet.split, parquet.read),
}
