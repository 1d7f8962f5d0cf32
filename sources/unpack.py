"""An uploaded file → the files in it, as streams, with bounds on what they may become.

gzip holds one file, zip several, everything else is itself. Nothing is written anywhere, and no member's name
is ever a path: it is checked because a file that tries to be one is not sent in good faith. What the sizes
claim is checked before (`inspect`), what really comes out while it is read.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

from headwater.settings import Uploads
from sources import sniff
from sources.zip_directory import UnpackError, directory

# Below that no ratio counts: a small file of blanks harms nobody.
RATIO_FROM_BYTES = 16 << 20
LOCAL_HEADER_BYTES = 30  # before a member, its name not counted
_BUFFER = 256 << 10
_PROBE_BYTES = 1 << 20
_GZIP_WINDOW = 31
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)


@dataclass(frozen=True)
class Limits:
    """What a file may unpack to."""

    max_unpacked_bytes: int
    max_ratio: int
    max_members: int
    max_name_length: int

    @classmethod
    def of(cls, uploads: Uploads) -> "Limits":
        """As the settings say."""
        return cls(
            uploads.max_unpacked_bytes, uploads.max_ratio, uploads.max_members, uploads.max_name_length
        )


@dataclass(frozen=True)
class Member:
    """A file to parse: `name` is only said, never opened; `stream` is good until the next member."""

    name: str | None
    format: str
    stream: BinaryIO


def probe(head: bytes | memoryview, limits: Limits) -> None:
    """Refuse a gzip file by its first bytes: what is in it, and how much they become. UnpackError."""
    member = zlib.decompressobj(_GZIP_WINDOW)
    left: bytes | memoryview = head
    size = 0
    while left and size <= RATIO_FROM_BYTES and not member.eof:
        try:
            unpacked = member.decompress(left, _PROBE_BYTES)
        except zlib.error:
            raise UnpackError("damaged") from None
        if not size:
            _member_format(unpacked[: sniff.HEAD_BYTES])
        left, size = member.unconsumed_tail, size + len(unpacked)
    if size > limits.max_unpacked_bytes:
        raise UnpackError("too_large_unpacked")
    _check_ratio(size, len(head) - len(left), limits)


def inspect(stream: BinaryIO, limits: Limits) -> None:
    """Refuse a zip file by its directory: names, count, claimed sizes and ratios. UnpackError."""
    found = directory(stream, limits.max_members, limits.max_name_length)
    size = stream.seek(0, io.SEEK_END)
    if sum(entry.file_size for entry in found) > limits.max_unpacked_bytes:
        raise UnpackError("too_large_unpacked")
    for entry in found:
        _check_ratio(entry.file_size, entry.compress_size, limits)
    _check_apart(found, size)


def members(stream: BinaryIO, kind: str, limits: Limits) -> Iterator[Member]:
    """The files in a stream of this format, in order. UnpackError, also while a member is read."""
    stream.seek(0)
    if kind == sniff.GZIP:
        counted = _Counted(cast(BinaryIO, gzip.GzipFile(fileobj=stream)), stream.tell, limits, 0)
        yield _member(None, counted)
    elif kind == sniff.ZIP:
        yield from _zip_members(stream, limits)
    else:
        yield Member(None, kind, stream)


def _zip_members(stream: BinaryIO, limits: Limits) -> Iterator[Member]:
    inspect(stream, limits)
    before = 0
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            if entry.is_dir():
                continue
            try:
                opened = archive.open(entry)
            except (*_DAMAGED, NotImplementedError, RuntimeError):
                raise UnpackError("damaged") from None
            with opened:
                packed = partial(int, entry.compress_size)
                counted = _Counted(cast(BinaryIO, opened), packed, limits, before)
                yield _member(entry.filename, counted)
                before += counted.size


def _member(name: str | None, raw: "_Counted") -> Member:
    stream = io.BufferedReader(raw, _BUFFER)
    return Member(name, _member_format(stream.peek(sniff.HEAD_BYTES)[: sniff.HEAD_BYTES]), stream)


def _member_format(head: bytes) -> str:
    """Text only: an archive in an archive multiplies ratios, Parquet must be read from its end."""
    if not head:
        raise UnpackError("empty")
    kind = sniff.sniff(head)
    if kind in sniff.ARCHIVES:
        raise UnpackError("nested_archive")
    if kind is None or kind == sniff.PARQUET:
        raise UnpackError("member_type")
    return kind


class _Counted(io.RawIOBase):
    """Unpacked bytes, until there are too many of them."""

    def __init__(self, source: BinaryIO, packed: Callable[[], int], limits: Limits, before: int) -> None:
        self._source = source
        self._packed = packed
        self._limits = limits
        self._before = before
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer unless the file ends."""
        view, filled = memoryview(buffer), 0
        while filled < len(view):
            try:
                chunk = self._source.read(len(view) - filled)
            except _DAMAGED:
                raise UnpackError("damaged") from None
            if not chunk:
                break
            view[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
        self._count(filled)
        return filled

    def _count(self, more: int) -> None:
        self.size += more
        if self._before + self.size > self._limits.max_unpacked_bytes:
            raise UnpackError("too_large_unpacked")
        _check_ratio(self.size, self._packed(), self._limits)


def _check_ratio(unpacked: int, packed: int, limits: Limits) -> None:
    if unpacked > RATIO_FROM_BYTES and unpacked > limits.max_ratio * max(packed, 1):
        raise UnpackError("ratio")


def _check_apart(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Members that share bytes are how a small file becomes petabytes without a suspicious ratio."""
    ends = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < ends:
            raise UnpackError("member_overlap")
        ends = entry.header_offset + LOCAL_HEADER_BYTES + entry.compress_size
    if ends > size:
        raise UnpackError("damaged")
