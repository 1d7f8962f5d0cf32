"""What the tests of reconcile share: a lake, its destinations as delivered, and who else writes there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from headwater.errors import QualityError
from headwater.settings import Settings
from headwater.tables import append_rows, ensure_table
from jobs import repair
from jobs.deliver import Deliver
from jobs.queries import Context
from jobs.reconcile import Wanted, reconcile
from jobs.runtime import Runtime
from local.postgres import dsn
from schemas.tables import Table
from sinks import postgres as postgres_sink

NOTHING = {"missing": 0, "extra": 0, "older": 0, "different": 0}


class Crash(Exception):
    """In place of a SIGKILL."""


class Lake:
    """A lake of one domain, and the systems that it is delivered to."""

    def __init__(self, spark: SparkSession, settings: Settings, domain: str, *systems: str) -> None:
        self.spark, self.settings, self.domain, self.systems = spark, settings, domain, systems

    def context(self) -> Context:
        return Context(self.spark, self.settings, "test")

    def enter(self, table: Table, rows: pa.Table) -> None:
        """Rows of silver."""
        ensure_table(self.spark, self.settings, table)
        append_rows(self.spark, rows, self.settings, table.full_name)

    def deliver(self) -> None:
        context = self.context()
        Runtime(context, once=True).run([Deliver(context, self.domain, to) for to in self.systems])

    def reconcile(self, **wanted: Any) -> dict[str, Any]:
        """What is said of each table. Nothing may differ at the end."""
        found = reconcile(self.context(), self.domain, wanted=Wanted(**wanted))["reconcile"]
        assert isinstance(found, dict)
        return found

    def faults(self, **wanted: Any) -> list[str]:
        """What differs at the end."""
        try:
            self.reconcile(**wanted)
        except QualityError as fault:
            return str(fault).removeprefix("reconcile: ").split("; ")
        return []

    def counted(self, **wanted: Any) -> list[str]:
        """The same without the examples."""
        return [fault.partition(" (")[0] for fault in self.faults(**wanted)]

    def left_by_a_crash(self, monkeypatch: pytest.MonkeyPatch, point: str, **wanted: Any) -> list[str]:
        """What differs after a repair that ended there."""

        def crash(_: str, at: str) -> None:
            if at == point:
                raise Crash

        with monkeypatch.context() as patched, pytest.raises(Crash):
            for module in (repair, postgres_sink):
                patched.setattr(module, "fail_at", crash)
            self.reconcile(repair=True, **wanted)
        return self.counted(**wanted)


@contextmanager
def owner(database: str) -> Iterator[psycopg.Connection[Any]]:
    """Someone who may write everywhere."""
    address = dsn("headwater_owner", "postgres-owner", database)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection


def did(database: str, *statements: str) -> list[int]:
    """How many rows each statement touched; none may have missed."""
    with owner(database) as connection:
        touched = [connection.execute(statement.encode()).rowcount for statement in statements]
    assert 0 not in touched
    return touched


def asked(database: str, query: str) -> list[tuple[Any, ...]]:
    with owner(database) as connection:
        return connection.execute(query.encode()).fetchall()


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema)
