"""Imports with overlapping rows at once, on real connections: no deadlock, no row twice, no count lost."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import psycopg
import pytest

from headwater.postgres import Connection
from headwater.settings import Settings
from local.postgres import dsn
from sinks.ingested_data import Upserted, discard, stage, take_turn, upsert
from tests.integration.broker import eventually
from tests.integration.uploads.harness import ask
from tests.integration.uploads.staged_rows import (
    DATASET,
    TENANT,
    copied,
    entered_job,
    hash_of,
    staged,
    staging_of,
    upserted,
)

WORKERS, FILES = 4, 3


@pytest.fixture
def writers(settings: Settings, database: str) -> Iterator[list[Connection]]:
    """A connection for each worker."""
    address = dsn("headwater_writer", "postgres-writer", database)
    made = [psycopg.connect(address, autocommit=True) for _ in range(WORKERS)]
    yield made
    for connection in made:
        connection.close()


def counts(database: str) -> dict[str, int]:
    return dict(ask(database, "SELECT encode(content_hash, 'hex'), seen_count FROM ingested_data"))


def test_overlapping_files_at_once_lose_no_count_and_no_row(writers: list[Connection], database: str) -> None:
    dice = random.Random(7)  # noqa: S311 - made rows are no secret
    files = [[dice.sample(range(400), 250) for _ in range(FILES)] for _ in writers]
    together = Barrier(WORKERS)

    def work(worker: int) -> list[Upserted]:
        done = []
        for numbers in files[worker]:
            job = entered_job(database)
            staged(database, job, numbers)
            together.wait(60)
            done.append(upserted(writers[worker], job))
        return done

    with ThreadPoolExecutor(WORKERS) as pool:
        done = [one for some in pool.map(work, range(WORKERS)) for one in some]
    wanted = Counter(hash_of(number) for some in files for numbers in some for number in numbers)
    assert counts(database) == wanted
    assert [one.inserted + one.updated + one.unchanged for one in done] == [250] * WORKERS * FILES
    assert sum(one.inserted for one in done) == len(wanted)
    assert sum(one.updated for one in done) == WORKERS * FILES * 250 - len(wanted)


def test_the_second_of_two_waits_and_sees_what_the_first_left(
    writers: list[Connection], database: str
) -> None:
    first, second = entered_job(database), entered_job(database)
    staged(database, first, [3, 1, 2])
    staged(database, second, [2, 3, 4])
    with ThreadPoolExecutor(1) as pool:
        with writers[0].transaction():
            upsert(writers[0], staging_of(first), first, TENANT, DATASET)
            waiting = pool.submit(upserted, writers[1], second)
            eventually(lambda: waits(database), "the second waits for its turn")
        assert waiting.result(60) == Upserted(1, 2, 0)
    assert counts(database) == {hash_of(1): 1, hash_of(2): 2, hash_of(3): 2, hash_of(4): 1}


def test_the_second_of_two_inserts_all_when_the_first_gave_up(
    writers: list[Connection], database: str
) -> None:
    first, second = entered_job(database), entered_job(database)
    for job in (first, second):
        staged(database, job, [1, 2])
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ZeroDivisionError), writers[0].transaction():
            upsert(writers[0], staging_of(first), first, TENANT, DATASET)
            waiting = pool.submit(upserted, writers[1], second)
            eventually(lambda: waits(database), "the second waits for its turn")
            raise ZeroDivisionError
        assert waiting.result(60) == Upserted(2, 0, 0)
    assert counts(database) == {hash_of(1): 1, hash_of(2): 1}


def test_who_waits_for_a_turn_may_be_told_to_stop(writers: list[Connection]) -> None:
    def stop() -> None:
        raise ZeroDivisionError

    with writers[0].transaction():
        take_turn(writers[0], TENANT, DATASET)
        with pytest.raises(ZeroDivisionError), writers[1].transaction():
            take_turn(writers[1], TENANT, DATASET, stop)


@pytest.mark.parametrize(("tenant", "dataset"), [("globex", DATASET), (TENANT, "companies")])
def test_imports_of_other_tenants_and_datasets_do_not_wait(
    writers: list[Connection], database: str, tenant: str, dataset: str
) -> None:
    first, second = entered_job(database), entered_job(database)
    for job in (first, second):
        staged(database, job, [1, 2])
    with writers[0].transaction():
        upsert(writers[0], staging_of(first), first, TENANT, DATASET)
        with writers[1].transaction():
            writers[1].execute("SET LOCAL statement_timeout = '20s'")
            assert upsert(writers[1], staging_of(second), second, tenant, dataset) == Upserted(2, 0, 0)


def test_a_worker_that_lost_its_job_touches_nothing_of_the_next_ones(
    writers: list[Connection], database: str
) -> None:
    job = entered_job(database)
    staged(database, job, [1, 2])
    address = dsn("headwater_writer", "postgres-writer", database)
    stage(address, f"import_{job.hex}_2", lambda target: copied(target, [1, 2, 3]))
    discard(writers[0], staging_of(job))
    with writers[1].transaction():
        done = upsert(writers[1], f"import_{job.hex}_2", job, TENANT, DATASET)
    assert done == Upserted(3, 0, 0)


def waits(database: str) -> list[tuple[UUID, ...]]:
    """Sessions that have asked for their turn, and will again."""
    query = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'
      AND query LIKE '%pg_try_advisory_xact_lock%'
    """
    with psycopg.connect(dsn("postgres", "postgres-superuser", database)) as connection:
        return connection.execute(query).fetchall()
