"""A zip file's directory, read only when it is of a bearable size, and only when every entry is harmless."""

import io
import stat
import struct
import zipfile
from typing import BinaryIO

_END = struct.Struct("<4s4H2LH")
_END_MAGIC = b"PK\x05\x06"
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64_LOCATOR_MAGIC = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_MAGIC = b"PK\x06\x06"
_MAX_COMMENT = 65_535
_ENTRY_BYTES = 46  # of an entry without its name
_EXTRA_BYTES = 1024  # of its times, owners and comment, at most
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
ARCHIVE_CODES = {
    "damaged": "is damaged or cut off",
    "empty": "holds nothing to read",
    "member_name": "holds a name that is absolute, climbs, is too long or is there twice",
    "member_kind": "holds something that is no plain file",
    "member_overlap": "holds files that share bytes",
    "member_type": "holds a file that is not CSV, JSON or NDJSON",
    "encrypted": "is encrypted",
    "method": "is packed by a method other than deflate",
    "nested_archive": "holds another archive",
    "ratio": "unpacks to too many times its size",
    "too_large_unpacked": "unpacks to too many bytes",
    "too_many_members": "holds too many files",
}


class UnpackError(Exception):
    """An archive that is refused: bad input, not an outage. `code` says why; no name is told."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = ARCHIVE_CODES[code]


def directory(stream: BinaryIO, max_members: int, max_name_length: int) -> list[zipfile.ZipInfo]:
    """The files of the archive. Raises UnpackError for the first entry that is not harmless."""
    _check_size(stream, max_members, max_name_length)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, UnicodeDecodeError, NotImplementedError):
        raise UnpackError("damaged") from None
    if len(entries) > max_members:
        raise UnpackError("too_many_members")
    names = [entry.orig_filename for entry in entries]
    if len(set(names)) < len(names):
        raise UnpackError("member_name")
    for entry in entries:
        _check(entry, max_name_length)
    files = [entry for entry in entries if not entry.is_dir()]
    if not files:
        raise UnpackError("empty")
    return files


def _check(entry: zipfile.ZipInfo, max_name_length: int) -> None:
    if not safe_name(entry.orig_filename, max_name_length):
        raise UnpackError("member_name")
    if entry.flag_bits & _ENCRYPTED:
        raise UnpackError("encrypted")
    if entry.compress_type not in _METHODS:
        raise UnpackError("method")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFDIR if entry.is_dir() else stat.S_IFREG):
        raise UnpackError("member_kind")


def safe_name(name: str, most: int) -> bool:
    """Whether a member's name stays below wherever somebody might unpack it, on any system."""
    parts = name.rstrip("/").split("/")
    harmless = all(part not in ("", ".", "..") for part in parts)
    plain = name.isprintable() and not any(mark in name for mark in ("\\", ":", "\0"))
    return harmless and plain and len(name) <= most


def _check_size(stream: BinaryIO, max_members: int, max_name_length: int) -> None:
    """The reader takes the whole directory into memory: look at what its end claims before."""
    count, size = _claimed(stream)
    if count > max_members:
        raise UnpackError("too_many_members")
    if size > max_members * (_ENTRY_BYTES + 4 * max_name_length + _EXTRA_BYTES):
        raise UnpackError("member_name")


def _claimed(stream: BinaryIO) -> tuple[int, int]:
    """How many entries the directory says it has, and how long it says it is."""
    size = stream.seek(0, io.SEEK_END)
    start = max(0, size - _END.size - _MAX_COMMENT)
    stream.seek(start)
    tail = stream.read(size - start)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise UnpackError("damaged")
    _, _, _, _, count, length, _, _ = _END.unpack_from(tail, at)
    locator = start + at - _END64_LOCATOR.size
    if locator < 0:
        return count, length
    return _claimed64(stream, locator) or (count, length)


def _claimed64(stream: BinaryIO, locator: int) -> tuple[int, int] | None:
    """The same from the record for large archives, whose sizes are the ones that a reader takes."""
    stream.seek(locator)
    magic, _, _, _ = _END64_LOCATOR.unpack(stream.read(_END64_LOCATOR.size))
    if magic != _END64_LOCATOR_MAGIC or locator < _END64.size:
        return None
    stream.seek(locator - _END64.size)  # where Python's reader looks for it as well
    fields = _END64.unpack(stream.read(_END64.size))
    return (int(fields[7]), int(fields[8])) if fields[0] == _END64_MAGIC else None
