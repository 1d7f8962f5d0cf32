"""CPU that PostgreSQL's backends take in one database, read from /proc: the server is on this machine."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from time import process_time

import psycopg

from local.postgres import dsn

_TICKS = os.sysconf("SC_CLK_TCK")
_EVERY_S = 0.05
_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


class Spent:
    """CPU seconds: of the database's backends, and of this process and those it has waited for."""

    def __init__(self) -> None:
        self.backends: dict[int, float] = {}
        self.clients = -_clients()

    @property
    def seconds(self) -> float:
        return sum(self.backends.values()) + self.clients


@contextmanager
def spent_in(database: str) -> Iterator[Spent]:
    """What is spent within the block, by backends that come and go within it: each is looked at again and
    again, so up to a twentieth of a second of each is missed."""
    spent, over = Spent(), Event()
    with psycopg.connect(dsn("postgres", "postgres-superuser", database), autocommit=True) as server:

        def look() -> None:
            while not over.wait(_EVERY_S):
                for (pid,) in server.execute(_BACKENDS):
                    spent.backends[pid] = _of(pid) or spent.backends.get(pid, 0)

        watcher = Thread(target=look)
        watcher.start()
        try:
            yield spent
        finally:
            over.set()
            watcher.join()
            spent.clients += _clients()


def _of(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _clients() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime
