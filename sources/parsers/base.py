"""The bytes of chunks, for all parsers."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from schemas.rows import Chunk, Parsed, RowFault, cut

CHUNK_BYTES = 4 << 20  # more than a record may have, little enough for a core's memory
_LF = 10


def content(chunk: Chunk) -> bytes:
    """The bytes of a chunk, of one that is a fault as a whole the beginning."""
    with Path(chunk.path).open("rb") as file:
        file.seek(chunk.offset)
        return file.read(min(chunk.length, CHUNK_BYTES) if chunk.fault else chunk.length)


def count_lines(data: bytes) -> int:
    """How many line feeds there are."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == _LF))


def whole_fault(chunk: Chunk, data: bytes) -> Parsed:
    """What is read of a chunk that is a fault as a whole; `data` is its beginning."""
    fault = RowFault(chunk.first, None, chunk.fault or "", cut(data))
    return Parsed(pa.array([], pa.int64()), {}, lambda _rows: [], [], [fault])
