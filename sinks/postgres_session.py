"""Connections of the writer: how long they wait for a server that is gone, and what their faults mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from headwater.settings import Postgres
from sinks.postgres_copy import classified, sqlstate_of

Connection = psycopg.Connection[tuple[Any, ...]]
UNSENT_MS = 60_000


def writer_conninfo(postgres: Postgres, application: str, options: str) -> str:
    """The writer's connection string, with its password: never to be shown."""
    return make_conninfo(
        postgres.dsn,
        password=postgres.password.get_secret_value() if postgres.password else None,
        connect_timeout=postgres.connect_timeout_s,
        application_name=application,
        options=options,
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=UNSENT_MS,
    )


@contextmanager
def connected(conninfo: str, where: str) -> Iterator[Connection]:
    """A connection in autocommit; its faults as ours, without their text, which may quote a row."""
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            yield connection
    except psycopg.Error as fault:
        raise classified(sqlstate_of(fault), where) from None


@contextmanager
def unless_locked(connection: Connection) -> Iterator[None]:
    """A savepoint that a lock timeout undoes quietly: an orphaned task may still hold the table."""
    try:
        with connection.transaction():
            yield
    except psycopg.errors.LockNotAvailable:
        return


class Link:
    """A connection that is kept from one use to the next, and made anew after a fault.

    For what looks every half second: a login costs the server more than the look.
    """

    def __init__(self, conninfo: str, where: str) -> None:
        self._conninfo = conninfo
        self._where = where
        self._connection: Connection | None = None

    @contextmanager
    def __call__(self) -> Iterator[Connection]:
        """The connection, in autocommit. Faults as those of `connected`."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._conninfo, autocommit=True)
            yield self._connection
        except psycopg.Error as fault:
            self.close()
            raise classified(sqlstate_of(fault), self._where) from None

    def close(self) -> None:
        """Give it back; the next use makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
