# ruff: noqa: S603 - the commands are our own, and no shell reads them
"""Processes that outlive the command that started them: start, find again, stop.

A pid alone may be recycled, so a pid file also keeps the process's start (boot id and clock ticks):
only a process that matches both is ours. Children carry a marker variable, so that they are found
even when their parent was killed.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from headwater.errors import SetupError
from local.places import Account, log_path, make_folder, state

MARKER = "HEADWATER_LOCAL_SERVER"
KILL_PATIENCE_S = 10.0
_STAT_START_TIME = 19  # field 22 of /proc/<pid>/stat, counted from the field behind the name


@dataclass(frozen=True)
class Launch:
    """What to run: command, extra environment, folder, and the OS user (None: oneself)."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: Account | None = None


@dataclass(frozen=True)
class Running:
    """A process of ours: the pid, its start mark, and the ports it was given."""

    pid: int
    mark: str
    ports: Mapping[str, int] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        return start_mark(self.pid) == self.mark


def start_mark(pid: int) -> str | None:
    """Boot id and start tick of a living process; None when it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}:{fields[_STAT_START_TIME]}"


def pid_file(name: str) -> Path:
    return make_folder(state() / "run") / f"{name}.pid"


def recall(name: str) -> Running | None:
    """The server's living process, or None: never started, stopped, or its pid is now another's."""
    try:
        found = Running(**json.loads(pid_file(name).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return found if found.alive else None


def remember(name: str, pid: int, ports: Mapping[str, int]) -> Running:
    running = Running(pid, start_mark(pid) or "gone", ports)
    draft = pid_file(name).with_suffix(".new")
    draft.write_text(json.dumps(vars(running)), encoding="utf-8")
    draft.replace(pid_file(name))
    return running


def spawn(name: str, launch: Launch, ports: Mapping[str, int]) -> Running:
    """Start in a session of its own, so that neither Ctrl-C nor a closed terminal ends it."""
    who = launch.user
    with _new_log(name).open("ab") as log:
        process = subprocess.Popen(
            launch.argv,
            cwd=launch.cwd,
            env=_environment(name, launch),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=who.uid if who else None,
            group=who.gid if who else None,
            extra_groups=[] if who else None,
        )
    return remember(name, process.pid, ports)


def _environment(name: str, launch: Launch) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HEADWATER_")}
    return kept | {"TZ": "UTC"} | dict(launch.env) | {MARKER: marker(name)}


def marker(name: str) -> str:
    """What the variable MARKER of a server's processes says."""
    return f"{state()}/{name}"


def _new_log(name: str) -> Path:
    """A new log for each start; the one before is kept beside it."""
    path = log_path(name)
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    return path


def leftovers(name: str) -> list[Running]:
    """Every living process that carries the server's marker, its parent alive or not."""
    wanted = f"{MARKER}={marker(name)}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # another user's, or gone
            pid = int(path.parent.name)
            if wanted in path.read_bytes().split(b"\0") and (mark := start_mark(pid)):
                found.append(Running(pid, mark))
    return found


def stop(name: str, how: signal.Signals, patience_s: float) -> int:
    """Ask, wait, then kill; gives how many processes ended. SetupError when one survives that."""
    leader = recall(name)
    family = _family(name, leader)
    asked = [leader] if leader else family
    for process in asked:
        _send(process, how)
    _wait_gone(family, patience_s)
    rest = _alive([*family, *leftovers(name)])
    for process in rest:
        _send(process, signal.SIGKILL)
    _wait_gone(rest, KILL_PATIENCE_S)
    if left := _alive([*rest, *leftovers(name)]):
        raise SetupError(f"{name}: processes {[p.pid for p in left]} could not be ended")
    pid_file(name).unlink(missing_ok=True)
    return len({process.pid for process in [*family, *rest]})


def _family(name: str, leader: Running | None) -> list[Running]:
    found = {process.pid: process for process in leftovers(name)}
    if leader:
        found[leader.pid] = leader
        with suppress(psutil.Error):
            for child in psutil.Process(leader.pid).children(recursive=True):
                if mark := start_mark(child.pid):
                    found[child.pid] = Running(child.pid, mark)
    return list(found.values())


def _send(process: Running, how: signal.Signals) -> None:
    if process.alive:
        with suppress(ProcessLookupError):
            os.kill(process.pid, how)


def _alive(processes: list[Running]) -> list[Running]:
    return [process for process in processes if process.alive]


def _wait_gone(processes: list[Running], patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while _alive(processes) and time.monotonic() < end:
        time.sleep(0.05)
