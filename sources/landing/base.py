"""What a storage of uploaded files can do, and how a file gets into it: part by part, whole or not at all.

A key is made by us, never from what a client sent: `<day>/<id of the job>`.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID

KEY = re.compile(r"\d{4}-\d{2}-\d{2}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What a killed writer left behind is nobody's after that: no upload takes so long.
ABANDONED = timedelta(days=1)


Part = bytes | memoryview


class Parts(Protocol):
    """One file on its way in. Its parts come in order; each but the last has the size that was agreed on."""

    def put(self, part: Part) -> None:
        """Write the next part."""

    def complete(self) -> None:
        """Make the file appear under its key, whole and durable."""

    def discard(self) -> None:
        """Leave nothing. Also after a failed `put` or `complete`; never raises for an outage."""


class Landing(Protocol):
    """A storage. Outages are TransientError, a wrong set-up is SetupError."""

    def begin(self, key: str) -> Parts:
        """A new file under this key."""

    def open(self, key: str) -> BinaryIO:
        """The file from its start, seekable, not read into memory. DataLossError when it is not there."""

    def path(self, key: str) -> Path | None:
        """Where the file lies, if it is a file of this machine; DataLossError when it is not there."""
        ...

    def delete(self, key: str) -> None:
        """Remove the file; one that is not there is fine."""

    def keys(self, older: timedelta = ABANDONED) -> Iterator[str]:
        """The keys of whole files that came longer ago than that."""
        ...

    def sweep(self, older: timedelta = ABANDONED) -> int:
        """Remove what writers that were killed have left: how many files."""


@dataclass(frozen=True)
class Stored:
    """A file that is in storage."""

    key: str
    size: int
    sha256: str


class Writer:
    """Writes a file part by part, and knows its size and SHA-256 at the end."""

    def __init__(self, landing: Landing, key: str) -> None:
        self._key = key
        self._parts = landing.begin(key)
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, part: Part) -> None:
        """The next part; each but the last has `uploads.part_bytes`."""
        self._digest.update(part)
        self._size += len(part)
        self._parts.put(part)

    def finish(self) -> Stored:
        """The file is there for everyone from now on."""
        self._parts.complete()
        return Stored(self._key, self._size, self._digest.hexdigest())

    def abort(self) -> None:
        """Nothing of it stays."""
        self._parts.discard()


def new_key(job_id: UUID, day: date) -> str:
    """The key of a job's file."""
    return checked(f"{day.isoformat()}/{job_id}")


def checked(key: str) -> str:
    """The key, if it is one of ours. ValueError for anything else, a path that climbs above all."""
    if not KEY.fullmatch(key):
        raise ValueError("not a key of the landing")
    return key


def store(landing: Landing, key: str, source: BinaryIO, part_bytes: int) -> Stored:
    """Copy a stream in; nothing stays when that fails."""
    writer = Writer(landing, key)
    try:
        while part := _read_part(source, part_bytes):
            writer.write(part)
        return writer.finish()
    except BaseException:
        writer.abort()
        raise


def _read_part(source: BinaryIO, size: int) -> bytes:
    """As much as asked for, unless the stream ends: a read of its own may give less."""
    held = bytearray()
    while len(held) < size and (chunk := source.read(size - len(held))):
        held += chunk
    return bytes(held)
