"""The archive in a folder: a file is written under another name, flushed to disk, renamed when whole."""

import os
from pathlib import Path
from typing import BinaryIO

from headwater.errors import DataLossError, SetupError
from headwater.local_parts import LocalParts, explained

SETTING = "archive.root"
# Readers take `*.parquet`, and nothing that begins with an underscore.
_INCOMING = "_{}.incoming"


class LocalStore:
    """A folder that only its owner may read, unless it was made otherwise."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise SetupError(f"archive.root {root} cannot be made ({fault.strerror})") from fault

    def folders(self, under: str) -> list[str]:
        try:
            with os.scandir(self._root / under) as found:
                return [entry.name for entry in found if entry.is_dir()]
        except FileNotFoundError:
            return []
        except OSError as fault:
            raise explained(fault, SETTING) from fault

    def files(self, folder: str) -> dict[str, int]:
        try:
            with os.scandir(self._root / folder) as found:
                return {entry.name: entry.stat().st_size for entry in found if not entry.is_dir()}
        except FileNotFoundError:
            return {}
        except OSError as fault:
            raise explained(fault, SETTING) from fault

    def begin(self, name: str) -> LocalParts:
        final = self._root / name
        try:
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise explained(fault, SETTING) from fault
        return LocalParts(final.with_name(_INCOMING.format(final.name)), final, self._root, SETTING)

    def open(self, name: str) -> BinaryIO:
        try:
            return (self._root / name).open("rb")
        except FileNotFoundError:
            raise DataLossError(f"{name} is not in the archive") from None
        except OSError as fault:
            raise explained(fault, SETTING) from fault

    def read(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as fault:
            raise explained(fault, SETTING) from fault

    def put_new(self, name: str, content: bytes) -> bool:
        if (there := self.read(name)) is not None:
            return there == content
        parts = self.begin(name)
        try:
            parts.put(content)
            parts.complete()
        except BaseException:
            parts.discard()
            raise
        return True

    def clear(self, folder: str) -> int:
        names = self.files(folder)
        try:
            for name in names:
                (self._root / folder / name).unlink(missing_ok=True)
        except OSError as fault:
            raise explained(fault, SETTING) from fault
        return len(names)
