"""The demo's own processes, the API and the jobs: started, watched, ended with SIGTERM, never left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwater.errors import HeadwaterError
from local.places import ROOT, log_path

_STOP_S = 90.0
_POLITE_S = 20.0
_TAIL = 12


class Child:
    """`python -m <words>` with its output in .local/logs/demo-<name>.log; `variables` are set besides."""

    def __init__(self, name: str, *words: str, variables: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log: Path = log_path(f"demo-{name}")
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules, no shell
                [sys.executable, "-m", *words],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HEADWATER_ENV": "local", "TZ": "UTC", **(variables or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def check(self) -> None:
        """Raises HeadwaterError with the end of the log if the process has ended."""
        if self.exit_code is not None:
            raise HeadwaterError(f"{self.name} ended with exit code {self.exit_code}; {self.tail()}")

    def ask_to_stop(self) -> None:
        """SIGTERM. Raises HeadwaterError if it has ended before."""
        self.check()
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """The exit code, once it has ended. Raises HeadwaterError when it does not end."""
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise HeadwaterError(f"{self.name} did not stop within {_STOP_S:.0f} s; {self.tail()}") from None

    def kill(self) -> None:
        """End it and its children, whatever they are doing; politely first."""
        if self.exit_code is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_POLITE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self) -> str:
        """The last lines of the log, introduced by its path."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        return "\n".join([f"last lines of {self.log}:", *(line[:400] for line in lines)])

    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of the log."""
        found = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        return found
