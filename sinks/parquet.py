"""Rows, in their order → Parquet files of about one size, hashed on their way; visible when all are whole."""

import hashlib
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from sinks.archive.base import PART_BYTES, Parts, part_name
from sinks.archive.manifest import File

COMPRESSION = "zstd"
# At Arrow's own level, 1, texts that repeat within a page are missed; events take 7 % less at 6.
LEVEL = 3
# What the rows of one row group take in memory, at most.
GROUP_BYTES = 32 << 20
# Nothing to gain for what says something new in every row, and is long.
_PLAIN = ("key", "value", "headers")
_HEADER_NAMES = "headers.list.element.key"


class Folder(Protocol):
    """Where the files go."""

    def begin(self, name: str) -> Parts:
        """A new file of this name."""
        ...


class Sink:
    """A file object that Arrow writes to: parts of one size go on, hash and size are taken."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.size = 0
        self.closed = False
        self._held = bytearray()
        self._digest = hashlib.sha256()

    def write(self, data: bytes | memoryview | pa.Buffer) -> int:
        with memoryview(data) as view:
            self._digest.update(view)
            self._held += view
            self.size += view.nbytes
            written = view.nbytes
        while len(self._held) >= PART_BYTES:
            self.parts.put(bytes(self._held[:PART_BYTES]))
            del self._held[:PART_BYTES]
        return written

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """Parts go when they are full."""

    def close(self) -> None:
        if not self.closed and self._held:
            self.parts.put(bytes(self._held))
            self._held.clear()
        self.closed = True

    def sha256(self) -> str:
        return self._digest.hexdigest()


class ParquetParts:
    """part-00000.parquet and so on. None can be seen before `complete`."""

    def __init__(self, folder: Folder, schema: pa.Schema, file_bytes: int) -> None:
        self._folder, self._schema, self._file_bytes = folder, schema, file_bytes
        self._sinks: list[Sink] = []
        self._files: list[File] = []
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0

    def write(self, rows: pa.Table) -> None:
        """Append rows; a file that is about as large as it should be is closed."""
        group = max(1, min(GROUP_BYTES, self._file_bytes) * rows.num_rows // max(1, rows.nbytes))
        for first in range(0, rows.num_rows, group):
            part = rows.slice(first, group)
            self._writer = self._writer or self._begin()
            before = self._sinks[-1].size
            self._writer.write_table(part, row_group_size=group)
            self._rows += part.num_rows
            grown = self._sinks[-1].size - before
            # One row group more would be further away than this is.
            if self._sinks[-1].size + grown // 2 >= self._file_bytes:
                self._close()

    def finish(self) -> tuple[File, ...]:
        """All files, whole; they still wait for `complete`."""
        self._close()
        return tuple(self._files)

    def complete(self) -> None:
        """Make all files appear, one after the other."""
        for sink in self._sinks:
            sink.parts.complete()

    def discard(self) -> None:
        """Nothing of it stays."""
        for sink in self._sinks:
            sink.parts.discard()

    def _begin(self) -> pq.ParquetWriter:
        self._sinks.append(Sink(self._folder.begin(part_name(len(self._sinks)))))
        told = [name for name in self._schema.names if name not in _PLAIN]
        return pq.ParquetWriter(
            self._sinks[-1],
            self._schema,
            compression=COMPRESSION,
            compression_level=LEVEL,
            use_dictionary=[*told, _HEADER_NAMES],
            write_statistics=told,
            sorting_columns=pq.SortingColumn.from_ordering(
                self._schema, [("partition", "ascending"), ("offset", "ascending")]
            ),
        )

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        sink = self._sinks[-1]
        sink.close()
        sink.parts.seal()
        name = part_name(len(self._files))
        self._files.append(File(name=name, rows=self._rows, bytes=sink.size, sha256=sink.sha256()))
        self._writer, self._rows = None, 0
