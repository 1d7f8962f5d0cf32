"""A job as a process of its own, and how it has ended."""

import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.integration.broker import eventually
from tests.integration.lake import Row

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    code: int
    log: Path
    out: str
    seconds: float

    @property
    def status(self) -> Row:
        """The last line of stdout."""
        return dict(json.loads(self.out.strip().splitlines()[-1]))

    @property
    def why(self) -> str:
        """For assertion messages: exit code and the end of the log."""
        return f"exit {self.code} after {self.seconds:.1f} s\n{self.out}\n{self.log.read_text()[-3000:]}"


class Job:
    """A running `python -m jobs …` in a session of its own."""

    def __init__(self, argv: list[str], env: dict[str, str], log: Path) -> None:
        self.log, self.began = log, time.monotonic()
        self._out = log.with_suffix(".out")
        with log.open("wb") as errors, self._out.open("wb") as out:
            self.process = subprocess.Popen(
                argv, cwd=ROOT, env=env, stdout=out, stderr=errors, start_new_session=True
            )

    def wait(self, longest_s: float = 900.0, quiet_s: float = 180.0) -> Ended:
        """Its end, however slow the machine, as long as its log grows. Nothing of it may be left, the JVM and
        Python workers included."""
        end, size, last = time.monotonic() + longest_s, -1, 0.0
        while (code := self.process.poll()) is None:
            if (found := self.log.stat().st_size) != size:
                size, last = found, time.monotonic() + quiet_s
            if time.monotonic() > min(end, last):
                self.kill()
                raise AssertionError(f"the job did not end:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)
        eventually(lambda: not self.members(), f"processes of the job are gone: {self.members()}", 15)
        return Ended(code, self.log, self._out.read_text(), time.monotonic() - self.began)

    def members(self) -> list[int]:
        """Living processes of the job's session: PySpark's workers have process groups of their own."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            if int(fields[3]) == self.process.pid and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
        return found

    def kill(self) -> Ended:
        """SIGKILL to all of it at once."""
        while left := self.members():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.process.poll()
        return self.wait()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)
