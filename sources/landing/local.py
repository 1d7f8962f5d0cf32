"""Uploaded files in a folder: written under another name, flushed to disk, renamed when whole."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from headwater.errors import DataLossError, HeadwaterError, SetupError, TransientError
from headwater.log import logger
from sources.landing.base import ABANDONED, KEY, Part, checked

INCOMING = "incoming"
_NOT_OURS = (PermissionError, NotADirectoryError, IsADirectoryError, FileNotFoundError)
_log = logger(__name__)


class LocalLanding:
    """A folder that only its owner may read; API and workers must both see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            for made in (folder, folder / INCOMING):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise SetupError(f"uploads.folder {folder} cannot be made ({fault.strerror})") from fault

    def begin(self, key: str) -> "LocalParts":
        return LocalParts(self._folder / INCOMING / checked(key).replace("/", "_"), self._folder / key)

    def open(self, key: str) -> BinaryIO:
        try:
            return (self._folder / checked(key)).open("rb")
        except FileNotFoundError:
            raise DataLossError(f"the uploaded file {key} is not in storage") from None
        except OSError as fault:
            raise _explained(fault) from fault

    def path(self, key: str) -> Path:
        with self.open(key):
            return self._folder / key

    def delete(self, key: str) -> None:
        try:
            (self._folder / checked(key)).unlink(missing_ok=True)
        except OSError as fault:
            raise _explained(fault) from fault

    def keys(self, older: timedelta = ABANDONED) -> Iterator[str]:
        for path in self._folder.glob("*/*"):
            key = f"{path.parent.name}/{path.name}"
            with suppress(FileNotFoundError):  # deleted in this moment
                if KEY.fullmatch(key) and _older(path, older):
                    yield key

    def sweep(self, older: timedelta = ABANDONED) -> int:
        removed = 0
        for path in (self._folder / INCOMING).iterdir():
            with suppress(FileNotFoundError):  # finished in this moment
                if _older(path, older):
                    path.unlink()
                    removed += 1
        return removed


class LocalParts:
    """A file under its incoming name."""

    def __init__(self, incoming: Path, final: Path) -> None:
        self._incoming = incoming
        self._final = final
        self._size = 0
        try:
            self._file = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as fault:
            raise _explained(fault) from fault

    def put(self, part: Part) -> None:
        left = memoryview(part)
        try:
            while left:
                left = left[os.write(self._file, left) :]
            # Begins to write to the disk, waits for nothing: else all of it is left to the flush at the end.
            os.posix_fadvise(self._file, self._size, len(part), os.POSIX_FADV_DONTNEED)
            self._size += len(part)
        except OSError as fault:
            raise _explained(fault) from fault

    def complete(self) -> None:
        """The bytes are on the disk before the name is; then the name is, too."""
        try:
            os.fsync(self._file)
            self._close()
            self._final.parent.mkdir(mode=0o700, exist_ok=True)
            self._incoming.rename(self._final)
            for folder in (self._final.parent, self._final.parent.parent):
                _flush(folder)
        except OSError as fault:
            raise _explained(fault) from fault

    def discard(self) -> None:
        with suppress(OSError):
            self._close()
        for path in (self._incoming, self._final):
            try:
                path.unlink(missing_ok=True)
            except OSError as fault:
                _log.warning("upload_not_discarded", errno=fault.errno)

    def _close(self) -> None:
        """Once: the number may be another file's by then."""
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)


def _older(path: Path, than: timedelta) -> bool:
    return path.stat().st_mtime < time.time() - than.total_seconds()


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(fault: OSError) -> HeadwaterError:
    """A full or failing disk may mend itself; rights and missing folders do not."""
    sentence = f"uploads.folder: {fault.strerror}"
    return SetupError(sentence) if isinstance(fault, _NOT_OURS) else TransientError(sentence)
