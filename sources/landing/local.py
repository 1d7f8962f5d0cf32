"""Uploaded files in a folder: written under another name, flushed to disk, renamed when whole."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO

from headwater.errors import DataLossError, SetupError
from headwater.local_parts import LocalParts, explained
from sources.landing.base import ABANDONED, KEY, checked

INCOMING = "incoming"
SETTING = "uploads.folder"


class LocalLanding:
    """A folder that only its owner may read; API and workers must both see it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            for made in (folder, folder / INCOMING):
                made.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise SetupError(f"uploads.folder {folder} cannot be made ({fault.strerror})") from fault

    def begin(self, key: str) -> LocalParts:
        incoming = self._folder / INCOMING / checked(key).replace("/", "_")
        return LocalParts(incoming, self._folder / key, self._folder, SETTING)

    def open(self, key: str) -> BinaryIO:
        try:
            return (self._folder / checked(key)).open("rb")
        except FileNotFoundError:
            raise DataLossError(f"the uploaded file {key} is not in storage") from None
        except OSError as fault:
            raise explained(fault, SETTING) from fault

    def path(self, key: str) -> Path:
        with self.open(key):
            return self._folder / key

    def delete(self, key: str) -> None:
        try:
            (self._folder / checked(key)).unlink(missing_ok=True)
        except OSError as fault:
            raise explained(fault, SETTING) from fault

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


def _older(path: Path, than: timedelta) -> bool:
    return path.stat().st_mtime < time.time() - than.total_seconds()
