"""A stack of the proof's own, to be killed at will: another folder, other ports, the checkout's binaries.

The developer's servers, lake and logs are left alone. What an earlier proof has left is deleted.
"""

import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.errors import SetupError
from headwater.settings import load_settings
from local import process, stack
from local.environment import API, METRICS, RECEIVER, lines
from local.places import STATE, Port, make_folder, say, state
from local.ports import free

# Not among the ports that the system gives to outgoing connections: while a server is away, its own is free.
_STEP, _STEPS = 300, 8
_NAME = "prove"


@contextmanager
def own_world() -> Iterator[Path]:
    """Its folder, while its servers run. SetupError when another proof of this checkout runs."""
    stack.install()
    folder = make_folder(state() / _NAME)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError("another proof runs in this checkout: one at a time") from None
        binaries = state() / "dist"
        _move_to(folder, {})
        process.stop(_NAME, signal.SIGKILL, 0)  # drivers and APIs whose proof was killed
        stack.down()
        _empty(folder, binaries)
        _move_to(folder, moved_ports())
        try:
            stack.up()
            yield folder
        finally:
            stack.down()


def _move_to(folder: Path, ports: dict[str, str]) -> None:
    """From now on this process, and what it starts, mean this folder and these ports; `env` says which."""
    variables = {STATE: str(folder), "HEADWATER_LAKE": str(folder / "lake"), **ports}
    (folder / "env").write_text("\n".join([*lines(variables), ""]), encoding="utf-8")
    os.environ |= variables
    for cached in (state, load_settings):
        cached.cache_clear()
    os.environ[process.MARKER] = process.marker(_NAME)


def _empty(folder: Path, binaries: Path) -> None:
    for name in ("data", "lake", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    if not (folder / "dist").exists():
        (folder / "dist").symlink_to(binaries)


def moved_ports() -> dict[str, str]:
    """HEADWATER_PORT_<NAME> of all, the same distance from where they would be, where none is taken."""
    servers = [port for server in stack.SERVERS.values() for port in server.ports]
    ports: list[Port] = [*servers, API, METRICS, RECEIVER]
    for by in range(_STEP, _STEP * (_STEPS + 1), _STEP):
        found = {port.name: port.number + by for port in ports}
        if all(map(free, found.values())):
            say(f"a stack of its own, on ports {by} above the usual ones")
            return {name: str(number) for name, number in found.items()}
    raise SetupError("no free ports for a stack of the proof's own: set HEADWATER_PORT_<NAME>")
