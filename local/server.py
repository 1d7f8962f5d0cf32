"""What a server of the stack is: a name, ports, and how to install, start, probe and stop it."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from signal import SIGTERM, Signals

from local import process
from local.places import Port, log_path
from local.process import Launch, Running

TAIL_LINES = 20
_PROBE_EVERY_S = 0.2
_PROBE_TIMEOUT_S = 1.0


class StartError(Exception):
    """A server that did not come up; carries its name and says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} did not start: {reason}")
        self.name = name


def _nothing() -> None:
    """Most servers need nothing between the first answer and being ready."""


@dataclass(frozen=True)
class Server:
    """One server. The callables are plain functions of the server's own file.

    `launch` writes configuration and data folders and says what to run; `answers` is one probe, which
    may raise OSError; `settle` runs after the first answer and must be safe to run again.
    """

    name: str
    ports: tuple[Port, ...]
    install: Callable[[], None]
    launch: Callable[[], Launch]
    answers: Callable[[], bool]
    settle: Callable[[], None] = _nothing
    needs: tuple[str, ...] = ()
    stop_signal: Signals = SIGTERM
    start_timeout_s: float = 180.0
    stop_timeout_s: float = 30.0

    @property
    def log(self) -> Path:
        return log_path(self.name)

    @property
    def running(self) -> Running | None:
        return process.recall(self.name)

    def start(self) -> None:
        """Spawn, wait for the first answer, settle. StartError when it ends or takes too long."""
        process.stop(self.name, self.stop_signal, self.stop_timeout_s)  # what a killed parent left
        running = process.spawn(self.name, self.launch(), {port.name: port.number for port in self.ports})
        end = time.monotonic() + self.start_timeout_s
        while not self.ready():
            if not running.alive:
                raise StartError(self.name, "it ended by itself")
            if time.monotonic() > end:
                raise StartError(self.name, f"no answer within {self.start_timeout_s:.0f} s")
            time.sleep(_PROBE_EVERY_S)
        self.settle()

    def ready(self) -> bool:
        """Whether it runs and answers now."""
        try:
            return self.running is not None and reachable(self.ports[0].number) and self.answers()
        except (OSError, HTTPException):
            return False

    def stop(self) -> int:
        return process.stop(self.name, self.stop_signal, self.stop_timeout_s)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of the log."""
        if not self.log.exists():
            return f"({self.name} has no log yet)"
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def reachable(port: int) -> bool:
    """Whether something accepts connections there: the cheap question before a protocol's own."""
    with socket.socket() as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0
