"""A wall clock that a test sets, for real processes: clock.c, compiled and preloaded."""

import struct
import subprocess
from pathlib import Path

from local.install import command

HOUR_S, DAY_S = 3600, 86_400
_SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """Set at once in every process that was started with `env`, and in their children."""

    def __init__(self, folder: Path) -> None:
        library, self._file = folder / "clock.so", folder / "clock"
        build = [command("cc"), "-O1", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
        subprocess.run(build, check=True)
        self._file.write_bytes(struct.pack("=q", 0))
        self.env = {"LD_PRELOAD": str(library), "TEST_CLOCK_FILE": str(self._file)}

    def set(self, ahead_s: int) -> None:
        """From now on it shows so many seconds more than the real one."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", ahead_s))
