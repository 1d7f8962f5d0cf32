"""Which ports are taken, by whom, and what to do about it."""

import socket
from dataclasses import dataclass

import psutil

from local.places import Port


@dataclass(frozen=True)
class Taken:
    """A port that a server of ours wants and something else holds."""

    server: str
    port: Port
    pid: int | None
    process: str | None

    def __str__(self) -> str:
        holder = f"process {self.pid} ({self.process})" if self.pid else "another user's process"
        return (
            f"port {self.port.number}, wanted by {self.server}, is held by {holder}: "
            f"end that, or choose another with {self.port.name}=<port>"
        )


def taken(server: str, port: Port) -> Taken | None:
    """Who holds the port, or None when it is free."""
    if free(port.number):
        return None
    pid = _holder(port.number)
    return Taken(server, port, pid, _process_name(pid))


def free(number: int) -> bool:
    """Whether a server could listen there."""
    with socket.socket() as probe:
        # As servers do: a connection in TIME_WAIT does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
            probe.listen(1)
        except OSError:
            return False
    return True


def _holder(number: int) -> int | None:
    try:
        for row in psutil.net_connections("tcp"):
            if row.status == psutil.CONN_LISTEN and row.laddr and row.laddr.port == number:
                return row.pid
    except (psutil.Error, OSError):
        return None
    return None


def _process_name(pid: int | None) -> str | None:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:80] if pid else None
    except psutil.Error:
        return None
