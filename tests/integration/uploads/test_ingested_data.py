"""The upsert of a file's rows against a real server, without Spark: counts, repetitions, crashes, orphans."""

import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from headwater.errors import LostError, QualityError, SetupError, TransientError
from headwater.postgres import Connection
from headwater.settings import Settings
from local.postgres import dsn
from sinks.ingested_data import Upserted, discard, discard_orphans, stage, upsert
from sinks.postgres_lines import CopyTarget, Sent
from tests.integration.uploads.harness import ask
from tests.integration.uploads.staged_rows import (
    DATASET,
    TENANT,
    copied,
    entered_job,
    hash_of,
    line_of,
    staged,
    staging_of,
    upserted,
)


@pytest.fixture
def writer(settings: Settings, database: str) -> Iterator[Connection]:
    """The writer's connection, to a database without rows and staging."""
    with psycopg.connect(dsn("headwater_writer", "postgres-writer", database), autocommit=True) as connection:
        discard_orphans(connection, lambda names: {name for name in names if name.startswith("import")})
        yield connection


def kept(database: str) -> list[tuple[Any, ...]]:
    query = "SELECT encode(content_hash, 'hex'), seen_count, first_job, last_job FROM ingested_data"
    return ask(database, f"{query} ORDER BY content_hash, tenant_id, dataset")


def staging_tables(database: str) -> list[str]:
    query = "SELECT tablename FROM pg_tables WHERE schemaname = 'staging' AND tablename LIKE 'import%%'"
    return [name for (name,) in ask(database, query)]


def imported(connection: Connection, database: str, *numbers: int) -> tuple[UUID, Upserted]:
    """A job whose file has these rows, and what became of them."""
    job = entered_job(database)
    staged(database, job, numbers)
    return job, upserted(connection, job)


def test_new_rows_are_inserted_with_their_data_and_staging_is_gone(writer: Connection, database: str) -> None:
    job, done = imported(writer, database, 3, 1, 2)
    assert done == Upserted(3, 0, 0)
    assert kept(database) == [(hash_of(n), 1, job, job) for n in (1, 2, 3)]
    assert ask(database, "SELECT data->>'n', tenant_id, dataset FROM ingested_data ORDER BY 1") == [
        (str(n), TENANT, DATASET) for n in (1, 2, 3)
    ]
    assert staging_tables(database) == []


def test_rows_that_are_there_are_counted_once_more_and_keep_their_first_job(
    writer: Connection, database: str
) -> None:
    first, _ = imported(writer, database, 1, 2)
    second, done = imported(writer, database, 2, 3)
    assert done == Upserted(1, 1, 0)
    expected = [(1, 1, first, first), (2, 2, first, second), (3, 1, second, second)]
    assert kept(database) == [(hash_of(n), *rest) for n, *rest in expected]


def test_an_update_moves_updated_at_and_never_the_version_back(writer: Connection, database: str) -> None:
    imported(writer, database, 1)
    ask(database, "UPDATE ingested_data SET updated_at = '2026-01-01Z', created_at = '2026-01-01Z'")
    (before,) = ask(database, "SELECT row_version FROM ingested_data")
    earlier = entered_job(database)
    ask(database, "UPDATE ingestion_jobs SET created_at = '2020-01-01Z' WHERE id = %s", earlier)
    staged(database, earlier, [1])
    assert upserted(writer, earlier) == Upserted(0, 1, 0)
    query = "SELECT row_version, updated_at > '2026-01-01Z', created_at > '2026-01-01Z' FROM ingested_data"
    assert ask(database, query) == [(*before, True, False)]


def test_a_row_version_is_the_jobs_time_and_the_line(writer: Connection, database: str) -> None:
    job = entered_job(database)
    ask(database, "UPDATE ingestion_jobs SET created_at = '2026-03-01T12:00:00.0019Z' WHERE id = %s", job)
    staged(database, job, [7, 8], first_line=(1 << 20) + 5)
    upserted(writer, job)
    noon_ms = 1_772_366_400_001
    found = ask(database, "SELECT row_version FROM ingested_data ORDER BY content_hash")
    assert found == [(noon_ms << 20 | 5,), (noon_ms << 20 | 6,)]


def test_a_hash_that_repeats_within_the_file_is_unchanged_and_counts_once(
    writer: Connection, database: str
) -> None:
    assert imported(writer, database, 1, 1, 2, 1)[1] == Upserted(2, 0, 2)
    assert imported(writer, database, 2, 2, 2)[1] == Upserted(0, 1, 2)
    assert [row[:2] for row in kept(database)] == [(hash_of(1), 1), (hash_of(2), 2)]


@pytest.mark.parametrize("others", [[], [1, 5]])
def test_the_same_job_twice_changes_nothing(writer: Connection, database: str, others: list[int]) -> None:
    if others:
        imported(writer, database, *others)
    job, _ = imported(writer, database, 1, 2)
    once = ask(database, "SELECT * FROM ingested_data ORDER BY id")
    staged(database, job, [1, 2])
    assert upserted(writer, job) == Upserted(0, 0, 2)
    assert ask(database, "SELECT * FROM ingested_data ORDER BY id") == once


def test_rows_of_another_tenant_or_dataset_are_other_rows(writer: Connection, database: str) -> None:
    imported(writer, database, 1)
    for tenant, dataset in (("globex", DATASET), (TENANT, "companies")):
        job = entered_job(database)
        staged(database, job, [1])
        with writer.transaction():
            assert upsert(writer, staging_of(job), job, tenant, dataset) == Upserted(1, 0, 0)
    assert [row[:2] for row in kept(database)] == [(hash_of(1), 1)] * 3


def test_a_file_without_rows_changes_nothing(writer: Connection, database: str) -> None:
    assert imported(writer, database)[1] == Upserted(0, 0, 0)


def test_staging_again_replaces_what_was_staged(writer: Connection, database: str) -> None:
    job = entered_job(database)
    staged(database, job, [1, 2, 3])
    staged(database, job, [2])
    assert upserted(writer, job) == Upserted(1, 0, 0)


def test_rows_of_a_task_that_does_not_count_are_left_out(writer: Connection, database: str) -> None:
    job = entered_job(database)
    targets: list[CopyTarget] = []

    def twice(target: CopyTarget) -> list[Sent]:
        targets.append(target)
        copied(target, [1, 2])
        return copied(target, [1, 2])

    stage(dsn("headwater_writer", "postgres-writer", database), staging_of(job), twice)
    copied(targets[0], [9])  # by a task that was thought dead, when all was staged
    assert upserted(writer, job) == Upserted(2, 0, 0)


def test_a_crash_before_the_commit_leaves_rows_and_staging_as_they_were(
    writer: Connection, database: str
) -> None:
    job = entered_job(database)
    staged(database, job, [1, 2])
    with pytest.raises(ZeroDivisionError), writer.transaction():
        upsert(writer, staging_of(job), job, TENANT, DATASET)
        raise ZeroDivisionError
    assert kept(database) == []
    assert upserted(writer, job) == Upserted(2, 0, 0)


def test_nothing_is_written_of_rows_that_are_not_all_staged(writer: Connection, database: str) -> None:
    job = entered_job(database)
    with pytest.raises(TransientError, match="is not filled"):
        upserted(writer, job)
    with pytest.raises(ZeroDivisionError):
        stage(
            dsn("headwater_writer", "postgres-writer", database),
            staging_of(job),
            lambda _: [Sent(1 // 0, None, None)],
        )
    with pytest.raises(TransientError, match="is not filled"):
        upserted(writer, job)
    staged(database, job, [1, 2])
    writer.execute(f"TRUNCATE staging.{staging_of(job)}".encode())  # as a server does that crashed
    with pytest.raises(TransientError, match="lost rows"):
        upserted(writer, job)
    assert kept(database) == []


def test_a_job_that_is_not_there_is_lost(writer: Connection, database: str) -> None:
    job = uuid.uuid4()
    staged(database, job, [1])
    with pytest.raises(LostError):
        upserted(writer, job)
    discard(writer, staging_of(job))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (line_of(1, 2).replace('{"n":"1"}', "no json"), QualityError),
        (line_of(1, 2).replace('"1"', '"\\\\u0000"'), QualityError),
    ],
)
def test_data_that_postgresql_does_not_take_refuses_the_file_without_quoting_it(
    database: str, settings: Settings, text: str, kind: type[Exception]
) -> None:
    where = dsn("headwater_writer", "postgres-writer", database)
    with pytest.raises(kind, match=r"^COPY to staging: SQLSTATE 22...: rows that PostgreSQL does not take$"):
        stage(where, staging_of(entered_job(database)), lambda target: copied(target, [], text))


def test_a_hash_of_another_length_is_refused(writer: Connection, database: str) -> None:
    job = entered_job(database)
    where = dsn("headwater_writer", "postgres-writer", database)
    stage(where, staging_of(job), lambda target: copied(target, [], f"\\\\x00{line_of(1, 2)[3:]}"))
    with pytest.raises(psycopg.errors.CheckViolation):
        upserted(writer, job)


def test_a_role_without_the_right_is_a_setup_fault(settings: Settings, database: str) -> None:
    with pytest.raises(SetupError, match="42501"):
        stage(dsn("headwater_api", "postgres-api", database), "import_1", lambda _: [])


@pytest.mark.parametrize("role", ["api", "reader"])
def test_only_the_writer_makes_tables_in_staging(settings: Settings, database: str, role: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(database, "CREATE TABLE staging.mine (a int)", role=role)


def test_staging_that_nobody_has_is_dropped_and_that_of_others_stays(
    writer: Connection, database: str
) -> None:
    over, running = entered_job(database), entered_job(database)
    for job in (over, running):
        staged(database, job, [1])
    assert discard_orphans(writer, lambda names: {staging_of(over)} & set(names)) == 1
    assert staging_tables(database) == [staging_of(running)]
    assert ask(database, "SELECT count(*) FROM staging.leads") == [(0,)]
    discard(writer, staging_of(running))


def test_staging_that_a_task_still_uses_is_left_for_later(writer: Connection, database: str) -> None:
    job = uuid.uuid4()
    staged(database, job, [1])
    with psycopg.connect(dsn("headwater_writer", "postgres-writer", database)) as task:
        task.execute(f"LOCK TABLE staging.{staging_of(job)} IN ROW EXCLUSIVE MODE".encode())
        assert discard_orphans(writer, lambda _: {staging_of(job)}) == 0
    assert discard_orphans(writer, lambda _: {staging_of(job)}) == 1
