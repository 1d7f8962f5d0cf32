"""PostgreSQL migrations, run in the program: schemas/migrations → tables, view and grants, as the owner.

Two starters take turns by an advisory lock; all revisions that are due run in one transaction.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.log import logger
from headwater.postgres import UNTRUSTED, classified, owner_conninfo, sqlstate_of
from headwater.settings import Settings

ROLES = ("headwater_owner", "headwater_writer", "headwater_api", "headwater_reader")
# Any number, the same for all starters: "headwater" as digits of a telephone.
MIGRATION_LOCK = 432_392_837
LOCK_WAIT = "60s"
_log = logger(__name__)


def upgrade(settings: Settings) -> list[str]:
    """Bring the database to the newest revision; the revisions applied, oldest first, [] when it was there.

    Raises SetupError for a missing role or right, TransientError when the server does not answer.
    """
    applied: list[str] = []
    try:
        with _locked(settings) as connection, _migrations_folder() as folder:
            _check_rights(connection)
            _run(settings, folder, applied)
    except psycopg.Error as fault:
        raise _explained(fault) from None  # the server's text may quote a row
    except DBAPIError as fault:
        raise _explained(fault.orig) from None
    _log.info("migrated", applied=applied)
    return applied


def _run(settings: Settings, folder: Path, applied: list[str]) -> None:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["on_apply"] = lambda step, **_: applied.append(str(step.up_revision_id))
    engine = create_engine("postgresql+psycopg://", creator=lambda: _connect(settings), poolclass=NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


@contextmanager
def _locked(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection that holds the migration lock until it closes."""
    with _connect(settings) as connection:
        connection.autocommit = True
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        yield connection


def _connect(settings: Settings) -> psycopg.Connection[Any]:
    options = f"-c lock_timeout={LOCK_WAIT} -c timezone=UTC -c search_path=public"
    return psycopg.connect(owner_conninfo(settings.postgres, options))


def _check_rights(connection: psycopg.Connection[Any]) -> None:
    """Roles are made by whoever runs the server, never by us: say what is missing, and the SQL for it."""
    known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
    missing = [role for role in ROLES if role not in known]
    if missing:
        wanted = "; ".join(f"CREATE ROLE {role} LOGIN PASSWORD '…'" for role in missing)
        raise SetupError(f"PostgreSQL lacks the role {', '.join(missing)}: as a superuser run {wanted}")
    may = connection.execute(
        "SELECT has_database_privilege(current_database(), 'CREATE'), pg_has_role(nspowner, 'USAGE')"
        " FROM pg_namespace WHERE nspname = 'public'"
    ).fetchone()
    if may != (True, True):
        who, where = connection.info.user, connection.info.dbname
        raise SetupError(
            f"{who} does not own the database {where} and its schema public: "
            f"as a superuser run ALTER DATABASE {where} OWNER TO {who}"
        )


def _explained(fault: BaseException | None) -> HeadwaterError:
    """Our own sentence for a server's fault: by SQLSTATE, without its text."""
    code = getattr(fault, "sqlstate", None)
    if code and code.startswith(("42", "28", "3D", "3F", "0A")):
        return SetupError(f"a migration was refused with SQLSTATE {code}: check the rights of the owner")
    if isinstance(fault, psycopg.OperationalError):
        if sqlstate_of(fault) == UNTRUSTED:
            return classified(UNTRUSTED, "migrate")
        return TransientError(
            f"PostgreSQL does not answer the owner (SQLSTATE {code or 'none'}): "
            "is it up, are postgres.owner_dsn and owner_password right, does another migration hold the lock?"
        )
    return SetupError(f"a migration failed with SQLSTATE {code or 'none'}")


@contextmanager
def _migrations_folder() -> Iterator[Path]:
    """schemas/migrations as a real folder: Alembic cannot read revisions out of a shipped zip."""
    found = resources.files("schemas") / "migrations"
    with ExitStack() as kept:
        if not isinstance(found, Path):
            copied = Path(kept.enter_context(TemporaryDirectory()))
            _copy(found, copied)
            found = copied
        yield found


def _copy(source: Traversable, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / entry.name)
        elif entry.name.endswith(".py"):
            (target / entry.name).write_bytes(entry.read_bytes())
