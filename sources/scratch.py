"""A file in storage → files that parsers can read: unpacked into a folder, or where it lies.

The folder must be seen by all who read: on a cluster it is shared. What a killed worker leaves is swept.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from headwater.errors import HeadwaterError, SetupError, TransientError
from sources import sniff
from sources.import_queue import ATTEMPT
from sources.landing.base import ABANDONED, Landing
from sources.unpack import Limits, members

_BLOCK = 4 << 20
_NOT_OURS = (PermissionError, NotADirectoryError, IsADirectoryError)


@dataclass(frozen=True)
class Readable:
    """A file of text or Parquet, and its format."""

    path: Path
    format: str


def readable(
    landing: Landing, key: str, kind: str, limits: Limits, folder: Path, check: Callable[[], None]
) -> list[Readable]:
    """The files in the file of this key, in order. `check` is asked between blocks, and may raise.

    Raises UnpackError for an archive that is refused, DataLossError when storage does not have the file.
    """
    there = landing.path(key) if kind not in sniff.ARCHIVES else None
    if there is not None:
        return [Readable(there, kind)]
    found = []
    with landing.open(key) as stream:
        for number, member in enumerate(members(stream, kind, limits)):
            path = folder / f"{number}.{member.format}"
            _copy(member.stream, path, check)
            found.append(Readable(path, member.format))
    return found


def _copy(source: BinaryIO, path: Path, check: Callable[[], None]) -> None:
    with path.open("xb") as target:
        while block := source.read(_BLOCK):
            check()
            with _disk():
                target.write(block)


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """An empty folder of this name that only its owner may read; gone at the end, with all it holds."""
    folder = root / name
    with _disk():
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path, older: timedelta = ABANDONED) -> int:
    """Remove the folders of workers that were killed a while ago: how many."""
    removed = 0
    for folder in root.iterdir() if root.is_dir() else ():
        if not ATTEMPT.fullmatch(folder.name):  # somebody else's, in a folder that is shared
            continue
        with suppress(FileNotFoundError):  # its worker has just removed it
            if folder.stat().st_mtime < time.time() - older.total_seconds():
                shutil.rmtree(folder, ignore_errors=True)
                removed += 1
    return removed


@contextmanager
def _disk() -> Iterator[None]:
    """A full or failing disk may mend itself; rights do not."""
    try:
        yield
    except OSError as fault:
        raise explained(fault) from fault


def explained(fault: OSError) -> HeadwaterError:
    """What a fault of the scratch folder means, without the path of anybody's file."""
    sentence = f"uploads.scratch: {os.strerror(fault.errno or 0)}"
    return SetupError(sentence) if isinstance(fault, _NOT_OURS) else TransientError(sentence)
