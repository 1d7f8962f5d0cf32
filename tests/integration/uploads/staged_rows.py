"""Rows of files in ingested_data, staged without Spark, in a database of the test's own."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import psycopg
import pyarrow as pa

from headwater.postgres import Connection
from local.postgres import dsn
from sinks.ingested_data import Upserted, stage, upsert
from sinks.postgres_lines import CopyTarget, Sent, lines_of, send
from sources.import_jobs import ENTER
from tests.integration.uploads.harness import new_job

TENANT, DATASET = "acme", "people"


def hash_of(number: int) -> str:
    """64 letters of hex, in the order of numbers."""
    return f"{number:064x}"


def line_of(number: int, line: int) -> str:
    """A row as COPY takes it."""
    return f'\\\\x{hash_of(number)}\t{{"n":"{number}"}}\t{line}\n'


def entered_job(database: str, **changes: Any) -> UUID:
    """A job that waits in the queue."""
    job = new_job(tenant_id=TENANT, dataset=DATASET, **changes)
    with psycopg.connect(dsn("headwater_writer", "postgres-writer", database)) as connection:
        connection.execute(ENTER, job.parameters())
    return job.id


def copied(target: CopyTarget, numbers: Iterable[int], text: str = "", first_line: int = 2) -> list[Sent]:
    """What a task does that has rows of these numbers, each on its line; behind them a text of the test's."""
    lines = [line_of(number, line) for line, number in enumerate(numbers, first_line)]
    sent = send(target, [lines_of(pa.array([*lines, text] if text else lines, pa.string()))])
    return [sent] if sent else []


def staging_of(job: UUID) -> str:
    """The staging table of the job's first attempt."""
    return f"import_{job.hex}_1"


def staged(database: str, job: UUID, numbers: Iterable[int], first_line: int = 2) -> None:
    """Rows of these numbers, as `load` stages them."""
    where = dsn("headwater_writer", "postgres-writer", database)
    stage(where, staging_of(job), lambda target: copied(target, numbers, first_line=first_line))


def upserted(connection: Connection, job: UUID, dataset: str = DATASET) -> Upserted:
    """In a transaction of its own."""
    with connection.transaction():
        return upsert(connection, staging_of(job), job, TENANT, dataset)
