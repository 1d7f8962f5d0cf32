"""A file that is read again when it changes; what was read last stays when the new content is wrong."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from headwater.errors import SetupError
from headwater.log import logger
from headwater.settings import ROOT

T = TypeVar("T")
LOOK_EVERY_S = 1.0
_log = logger(__name__)


class Watched(Generic[T]):
    """`value` is at most LOOK_EVERY_S older than the file. The first read raises SetupError."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        self._path = ROOT / path
        self._parse = parse
        self._looked = time.monotonic()
        self._stamp = self._read_stamp()
        self._value = self._load()

    @property
    def value(self) -> T:
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._refresh()
        return self._value

    def _refresh(self) -> None:
        try:
            stamp = self._read_stamp()
            if stamp != self._stamp:
                self._value = self._load()
                self._stamp = stamp
                _log.info("credentials_read_again", file=self._path.name)
        except SetupError:
            _log.error("credentials_not_read", file=self._path.name)

    def _read_stamp(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as cause:
            raise SetupError(f"{self._path} cannot be read; for a local stack run `make up` first") from cause
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _load(self) -> T:
        try:
            return self._parse(self._path.read_bytes())
        except OSError as cause:
            raise SetupError(f"{self._path} cannot be read") from cause
        except (ValueError, TypeError, KeyError) as cause:
            raise SetupError(f"{self._path} does not have the expected content") from cause
