"""A file that comes in parts to a folder: written under another name, flushed to disk, renamed when whole."""

import os
from contextlib import suppress
from pathlib import Path

from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.log import logger

_NOT_OURS = (PermissionError, NotADirectoryError, IsADirectoryError, FileNotFoundError)
_log = logger(__name__)


class LocalParts:
    """A file under its incoming name, which nobody else has."""

    def __init__(self, incoming: Path, final: Path, root: Path, setting: str) -> None:
        """`root`: the folder that was there before; `setting` names it to whoever must mend it."""
        self._incoming, self._final = incoming, final
        self._root, self._setting = root, setting
        self._size = 0
        try:
            self._file = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as fault:
            raise explained(fault, setting) from fault

    def put(self, part: bytes | memoryview) -> None:
        left = memoryview(part)
        try:
            while left:
                left = left[os.write(self._file, left) :]
            # Begins to write to the disk, waits for nothing: else all of it is left to the flush at the end.
            os.posix_fadvise(self._file, self._size, len(part), os.POSIX_FADV_DONTNEED)
            self._size += len(part)
        except OSError as fault:
            raise explained(fault, self._setting) from fault

    def seal(self) -> None:
        """All parts have come: the bytes are on the disk. `complete` may follow at any time."""
        try:
            if self._file >= 0:
                os.fsync(self._file)
                self._close()
        except OSError as fault:
            raise explained(fault, self._setting) from fault

    def complete(self) -> None:
        """The bytes are on the disk before the name is; then the name is, with the folders above it."""
        self.seal()
        try:
            self._final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._incoming.rename(self._final)
            for folder in self._final.parents:
                _flush(folder)
                if folder == self._root:
                    break
        except OSError as fault:
            raise explained(fault, self._setting) from fault

    def discard(self) -> None:
        with suppress(OSError):
            self._close()
        for path in (self._incoming, self._final):
            try:
                path.unlink(missing_ok=True)
            except OSError as fault:
                _log.warning("upload_not_discarded", setting=self._setting, errno=fault.errno)

    def _close(self) -> None:
        """Once: the number may be another file's by then."""
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            os.close(descriptor)


def explained(fault: OSError, setting: str) -> HeadwaterError:
    """A full or failing disk may mend itself; rights and missing folders do not."""
    sentence = f"{setting}: {fault.strerror}"
    return SetupError(sentence) if isinstance(fault, _NOT_OURS) else TransientError(sentence)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
