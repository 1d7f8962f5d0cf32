"""The API and the jobs as processes of the demo and the proof: started, watched, ended, never left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from headwater.errors import HeadwaterError
from local.places import ROOT, log_path
from local.process import start_mark

_STOP_S = 90.0
_POLITE_S = 20.0
_GONE_S = 15.0
_TAIL = 12


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C: what it started is stopped."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Child:
    """`python -m <words>` with its output in <state>/logs/<of>-<name>.log; `variables` are set besides."""

    def __init__(
        self, name: str, *words: str, variables: Mapping[str, str] | None = None, of: str = "demo"
    ) -> None:
        self.name = name
        self.log: Path = log_path(f"{of}-{name}")
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

    def crash(self) -> None:
        """SIGKILL to all of its session at once: a JVM, and Python workers, which have groups of their own.

        Returns when none of them is left. Raises HeadwaterError if one survives it.
        """
        end = time.monotonic() + _GONE_S
        while left := self._session():
            if time.monotonic() > end:
                raise HeadwaterError(f"{self.name}: processes {left} survive SIGKILL")
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.poll()
        self._process.wait()

    def _session(self) -> list[int]:
        """Its living processes."""
        found = []
        for pid in psutil.pids():
            with suppress(ProcessLookupError):
                if os.getsid(pid) == self.pid and start_mark(pid):
                    found.append(pid)
        return found

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
