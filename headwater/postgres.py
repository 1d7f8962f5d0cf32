"""PostgreSQL for everyone who speaks to it: connections, how long they wait, what their faults mean."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.settings import Postgres

Connection = psycopg.Connection[tuple[Any, ...]]
UNSENT_MS = 60_000
# A server that is at work looks for its client now and then, and lets go of what one that is gone has locked.
LETS_GO = (
    "-c client_connection_check_interval=5s"
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
NO_ANSWER = "08006"
LOGIN_REFUSED = "28000"
UNTRUSTED = "TLS"  # no SQLSTATE: the connection never got so far
_VERIFYING = ("verify-ca", "verify-full")
_MISUSE = "42000"
# libpq's login faults carry no SQLSTATE; these words of its (English) text tell them from an outage.
_LOGIN_WORDS = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "pg_hba.conf",
    "not permitted",
)
_TLS_WORDS = (
    "certificate verify failed",
    "does not match host name",
    "root certificate file",
    "does not support SSL",
)


def writer_conninfo(postgres: Postgres, application: str, options: str) -> str:
    """The writer's connection string, with its password: never to be shown."""
    return _conninfo(postgres, postgres.dsn, postgres.password, application, options)


def api_conninfo(postgres: Postgres, options: str) -> str:
    """The same of the API's role."""
    return _conninfo(postgres, postgres.api_dsn, postgres.api_password, "headwater-api", options)


def owner_conninfo(postgres: Postgres, options: str) -> str:
    """The same of the role that owns the tables: for migrations."""
    return _conninfo(postgres, postgres.owner_dsn, postgres.owner_password, "headwater migrate", options)


def _conninfo(
    postgres: Postgres, dsn: str, password: SecretStr | None, application: str, options: str
) -> str:
    return make_conninfo(
        dsn,
        password=password.get_secret_value() if password else None,
        connect_timeout=postgres.connect_timeout_s,
        application_name=application,
        options=f"{LETS_GO} {options}",
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=UNSENT_MS,
        **_authority(postgres, dsn),
    )


def _authority(postgres: Postgres, dsn: str) -> dict[str, str]:
    """Whose certificates are believed. Without a word libpq asks a file in the home directory only, and the
    OpenSSL in psycopg's wheel has no authorities where it looks for the system's: Python's are named."""
    if postgres.ca_file:
        return {"sslrootcert": str(postgres.ca_file)}
    said = conninfo_to_dict(dsn)
    system = ssl.get_default_verify_paths().cafile
    if system and said.get("sslmode") in _VERIFYING and not said.get("sslrootcert"):
        return {"sslrootcert": system}
    return {}


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


def classified(sqlstate: str, where: str) -> HeadwaterError:
    """What a fault of the server means to us, in a sentence without any of its text."""
    if sqlstate == UNTRUSTED:
        return SetupError(
            f"{where}: the certificate of PostgreSQL cannot be verified, or is another host's: "
            "check the DSN's host and postgres.ca_file"
        )
    fault = f"{where}: SQLSTATE {sqlstate}"
    if sqlstate.startswith(("28", "3D")):
        return SetupError(f"{fault}: PostgreSQL refuses the login; check postgres.dsn and its password")
    if sqlstate == "42501":
        return SetupError(f"{fault}: the role lacks a right; run `python -m jobs migrate`")
    if sqlstate.startswith(("42", "3F", "0A")):
        return SetupError(f"{fault}: a table or column is missing or differs; run `python -m jobs migrate`")
    return TransientError(f"{fault}: PostgreSQL is away or too busy")


def sqlstate_of(fault: psycopg.Error) -> str:
    """The fault's SQLSTATE, or the nearest one for faults that libpq raises without."""
    if fault.sqlstate:
        return fault.sqlstate
    if not isinstance(fault, psycopg.OperationalError | psycopg.InterfaceError):
        return _MISUSE
    text = str(fault)
    if any(words in text for words in _TLS_WORDS):
        return UNTRUSTED
    return LOGIN_REFUSED if any(words in text for words in _LOGIN_WORDS) else NO_ANSWER
