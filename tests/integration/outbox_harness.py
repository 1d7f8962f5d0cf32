"""Leads in a database of the test's own, written by PostgresSink's statements without Spark."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
from psycopg import sql

from headwater.identity import event_id
from headwater.postgres import Connection, writer_conninfo
from headwater.settings import Settings, load_settings
from jobs.queries import Context
from local.postgres import dsn
from schemas.migrate import upgrade
from sinks.base import Rejected
from sinks.outbox import LEAD_OUTBOX, LINEAGE
from sinks.postgres import LEAD_COLUMNS, SESSION, PostgresSink, _Rows

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
STAGED = (*LEAD_COLUMNS, *LINEAGE)


def settings_of(database: str, **changes: Any) -> Settings:
    """Local settings with this database; `changes` are sections by name."""
    base = load_settings("local")
    addresses = {
        "dsn": base.postgres.dsn.rsplit("/", 1)[0] + f"/{database}",
        "owner_dsn": base.postgres.owner_dsn.rsplit("/", 1)[0] + f"/{database}",
        "api_dsn": base.postgres.api_dsn.rsplit("/", 1)[0] + f"/{database}",
    }
    return base.model_copy(update={"postgres": base.postgres.model_copy(update=addresses)} | changes)


@contextmanager
def new_database() -> Iterator[str]:
    """The name of an empty database that the owner owns; dropped at the end."""
    name = f"headwater_test_{uuid.uuid4().hex[:8]}"
    made = sql.SQL("CREATE DATABASE {} OWNER headwater_owner").format(sql.Identifier(name))
    dropped = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
    with psycopg.connect(dsn("postgres", "postgres-superuser", "postgres"), autocommit=True) as server:
        server.execute(made)
        try:
            yield name
        finally:
            server.execute(dropped)


@contextmanager
def migrated_database() -> Iterator[str]:
    """The same, with every migration applied."""
    with new_database() as name:
        upgrade(settings_of(name))
        yield name


def context(settings: Settings, from_start: bool = False) -> Context:
    """A context without Spark."""
    return Context(cast(Any, None), settings, "test", from_start=from_start)


def lead(key: str, version: int = 1, tenant: str = "acme", **changes: Any) -> dict[str, Any]:
    """A row as the sink stages it."""
    name = event_id(tenant, key)
    row: dict[str, Any] = dict.fromkeys(STAGED)
    fixed = {
        "id": name, "event_id": name, "tenant_id": tenant, "idempotency_key": key, "source": "web",
        "email": f"{key}@example.com", "first_name": "Ada", "consent": True, "received_at": NOON,
        "ip_address": "2001:db8::1", "metadata": '{"a": [1, "b"]}', "row_version": version,
        "source_topic": "lead.ingest", "source_partition": 3, "source_offset": version,
    }  # fmt: skip
    return row | fixed | changes


class Leads:
    """The tables of one database, written as the sink writes them."""

    def __init__(self, settings: Settings) -> None:
        self.sink = PostgresSink(settings, outbox=LEAD_OUTBOX)
        self.connection: Connection = psycopg.connect(
            writer_conninfo(settings.postgres, "test", SESSION), autocommit=True
        )

    def stage(self, *leads: dict[str, Any]) -> _Rows:
        """COPY to staging; the attempt's range."""
        attempt = uuid.uuid4()
        columns = sql.SQL(", ").join(map(sql.Identifier, ("attempt", *STAGED)))
        into = sql.SQL("COPY staging.leads ({}) FROM STDIN").format(columns)
        with self.connection.cursor() as cursor, cursor.copy(into) as copy:
            for row in leads:
                copy.write_row([attempt, *[row[name] for name in STAGED]])
        return self.sink._staged_rows(self.connection, attempt, len(leads))

    def write(self, *leads: dict[str, Any]) -> tuple[int, int]:
        """Inserted and updated."""
        rows = self.stage(*leads)
        with self.connection.transaction():
            self.wait_for_turn()
            return self.enter(rows, [])

    def wait_for_turn(self) -> None:
        """As the first thing in a transaction that writes."""
        self.sink._take_turn(self.connection)

    def enter(self, rows: _Rows, refused: list[Rejected]) -> tuple[int, int]:
        """Upsert what was staged; rows that are refused go into the list."""
        return self.sink._upsert(self.connection, rows, refused)

    def ask(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query of the test's own."""
        return self.connection.execute(query.encode(), parameters).fetchall()

    def close(self) -> None:
        self.connection.close()


@contextmanager
def as_owner(settings: Settings) -> Iterator[Connection]:
    """The database as its owner sees it, in one transaction."""
    password = settings.postgres.owner_password
    assert password
    with psycopg.connect(settings.postgres.owner_dsn, password=password.get_secret_value()) as owner:
        yield owner


@contextmanager
def emptied_leads(settings: Settings) -> Iterator[Leads]:
    """`leads` and its outbox, with nothing in them."""
    made = Leads(settings)
    made.sink.reset()
    with as_owner(settings) as owner:
        owner.execute("TRUNCATE lead_outbox RESTART IDENTITY")
    yield made
    made.close()
