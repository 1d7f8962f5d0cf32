"""All servers together: up (checked, parallel, all or nothing), down (nothing left), status."""

import fcntl
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

from headwater.errors import SetupError
from local import elasticsearch, kafka, postgres, redis, registry
from local.credentials import make_secrets
from local.places import LOCAL, make_folder, say, state
from local.ports import taken
from local.server import Server

SERVERS: dict[str, Server] = {
    "postgres": postgres.SERVER,
    "kafka": kafka.SERVER,
    "redis": redis.SERVER,
    "elasticsearch": elasticsearch.SERVER,
    "registry": registry.SERVER,
}
PROBES = 3


@contextmanager
def _alone() -> Iterator[None]:
    """One `up`, `down` or `install` of a checkout at a time; a second one waits."""
    with (make_folder(state() / "run") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install() -> None:
    """Secrets and binaries. A running server keeps its binaries: they are renewed by the next `up`."""
    with _alone():
        make_secrets()
        for server in SERVERS.values():
            if not server.running:
                server.install()


def up() -> None:
    """Start what is not running. SetupError names taken ports; StartError leaves nothing of this start."""
    with _alone():
        make_secrets()
        missing = [server for server in SERVERS.values() if not _is_up(server)]
        _refuse_taken_ports(missing)
        for server in missing:
            server.install()
        _start_all(missing)


def _is_up(server: Server) -> bool:
    running = server.running
    if not running:
        return False
    for port in server.ports:
        used = running.ports.get(port.name)
        if used != port.number:
            raise SetupError(
                f"{server.name} runs already, with {port.name}={used} and not {port.number}: "
                f"run `make down` first, or export {port.name}={used}"
            )
    if _answers(server):
        say(f"{server.name:<14} runs already (pid {running.pid})")
        server.settle()  # it may have been started before a user, a role or a right was new
        return True
    say(f"{server.name:<14} runs (pid {running.pid}) but does not answer: starting it again")
    return False


def _answers(server: Server) -> bool:
    """Asked more than once: a busy server is not a dead one."""
    for _ in range(PROBES):
        if server.ready():
            return True
        time.sleep(1)
    return False


def _refuse_taken_ports(servers: list[Server]) -> None:
    for server in servers:
        server.stop()  # children of a parent that was killed would hold our own ports
    found = [held for server in servers for port in server.ports if (held := taken(server.name, port))]
    if found:
        raise SetupError("\n".join(["nothing was started:", *map(str, found)]))


def _start_all(servers: list[Server]) -> None:
    """All at once; the first failure, or Ctrl-C, ends the rest."""
    try:
        _start_together(servers)
    except BaseException:
        _stop_all(servers)  # again: one may have been on the point of starting
        raise


def _start_together(servers: list[Server]) -> None:
    futures: dict[str, Future[None]] = {}
    with ThreadPoolExecutor(max_workers=max(1, len(servers))) as pool:
        for server in servers:
            futures[server.name] = pool.submit(_start_one, server, dict(futures))
        try:
            for future in as_completed(futures.values()):
                future.result()
        except BaseException:
            _stop_all(servers)  # the pool waits for every start: let those end now
            raise


def _start_one(server: Server, others: dict[str, Future[None]]) -> None:
    for needed in server.needs:
        if needed in others:
            others[needed].result()
    begun = time.monotonic()
    say(f"{server.name:<14} starting")
    server.start()
    ports = ", ".join(str(port.number) for port in server.ports)
    say(f"{server.name:<14} ready in {time.monotonic() - begun:.1f} s on {ports}")


def down() -> None:
    """Stop every server, the ones that need others first; SetupError when a process survives."""
    with _alone():
        if not _stop_all(list(SERVERS.values())):
            say("nothing was running")


def _stop_all(servers: list[Server]) -> bool:
    """Whether anything was running."""
    ended = 0
    waves = ([s for s in servers if s.needs], [s for s in servers if not s.needs])
    for wave in waves:
        with ThreadPoolExecutor(max_workers=max(1, len(wave))) as pool:
            ended += sum(pool.map(_stop_one, wave))
    return bool(ended)


def _stop_one(server: Server) -> int:
    ended = server.stop()
    if ended:
        say(f"{server.name:<14} stopped")
    return ended


def wipe() -> None:
    """Delete the servers' data and the local lake with its checkpoints: one is useless without the other."""
    for folder in (state() / "data", state() / "logs", LOCAL / "lake"):
        if folder.exists():
            say(f"deleting {folder}")
            shutil.rmtree(folder)


def uninstall() -> None:
    """Stop all and delete everything the stack keeps, binaries and secrets included."""
    down()
    for folder in {state(), LOCAL}:
        say(f"deleting {folder}")
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Row:
    """One line of `status`."""

    name: str
    state: str
    pid: str
    ports: str


def status() -> list[Row]:
    return [_row(server) for server in SERVERS.values()]


def _row(server: Server) -> Row:
    running = server.running
    if not running:
        return Row(server.name, "down", "-", "-")
    ports = " ".join(map(str, running.ports.values()))
    return Row(server.name, "up" if server.ready() else "no answer", str(running.pid), ports)
