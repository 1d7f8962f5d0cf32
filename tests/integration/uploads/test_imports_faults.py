"""Imports that are killed, broken off, shared or without their servers: the tables are right in the end."""

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from headwater.errors import QualityError, SetupError, TransientError
from jobs import import_staged
from jobs.import_one import import_one
from jobs.launch import Launch
from jobs.queries import Context
from jobs.runtime import Runtime
from tests.integration.uploads.harness import ask
from tests.integration.uploads.imports import NoSpark, Office, contact, contacts

SMALL = contacts(1, 30, contact(31, email="nobody"))
LARGE = contacts(1, 30_000, contact(31, email="nobody"))
BREAK_OFF = {
    "cancelled": "UPDATE ingestion_jobs SET cancel_requested = true",
    "lost": "UPDATE ingestion_jobs SET attempts = attempts + 1",
}


@pytest.mark.parametrize(
    ("point", "content", "rows"),
    [("task", LARGE, 30_000), ("in_transaction", SMALL, 30), ("after_write", SMALL, 30)],
)
def test_a_killed_worker_leaves_what_another_makes_right(
    office: Office, spark: SparkSession, point: str, content: bytes, rows: int
) -> None:
    job = office.enter(content)
    killed = office.start("import-files", "--once", HEADWATER_FAILPOINT=f"import-files:{point}").wait()
    assert killed.code == -9, killed.why
    assert office.job(job, "status") == ("PROCESSING",)
    assert office.hashes() == {}
    ask(office.database, "UPDATE ingestion_jobs SET lease_until = now()")
    office.work(spark)
    assert office.counts(job) == ("COMPLETED_WITH_ERRORS", rows + 1, rows, 1, rows, 0, 0)
    assert len(office.hashes()) == rows
    assert {seen for seen in office.hashes().values()} == {1}
    assert len(office.table("silver.uploaded_rows")) == rows
    assert [row["source_offset"] for row in office.table("ops.dead_letters")] == [rows + 2]
    assert len(office.errors(job)) == 1


def test_two_workers_share_a_queue_of_files_with_the_same_rows(office: Office) -> None:
    jobs = [office.enter(contacts(1, 20 + number)) for number in range(6)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: office.work(), range(2)))
    assert sum(done) == 6
    assert [office.job(job, "status", "attempts") for job in jobs] == [("COMPLETED", 1)] * 6
    assert sorted(office.hashes().values()) == [1, 2, 3, 4, 5, *[6] * 20]
    assert len(office.table("silver.uploaded_rows")) == sum(20 + number for number in range(6))


def endless(spark: SparkSession) -> None:
    """A job of Spark's that only an interruption ends."""

    def sleep(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(120)
        yield from batches

    spark.range(1).mapInArrow(sleep, "id BIGINT").count()


@pytest.mark.parametrize("why", ["cancelled", "lost", "stopping"])
def test_an_import_that_is_broken_off_stops_at_once_and_writes_nothing(
    office: Office, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    office.settings = office.with_uploads(lease_s=3)
    stopping = threading.Event()
    load = import_staged.load

    def interrupted(rows: DataFrame, dsn: str, job_id: UUID) -> None:
        load(rows, dsn, job_id)
        if why == "stopping":
            stopping.set()
        else:
            ask(office.database, BREAK_OFF[why])
        endless(spark)

    monkeypatch.setattr(import_staged, "load", interrupted)
    job = office.enter(LARGE)
    worker = office.worker(spark, stopping)
    began = time.monotonic()
    worker.step()
    worker.close()
    assert time.monotonic() - began < 60
    status = {"cancelled": "CANCELLED", "lost": "PROCESSING", "stopping": "PENDING"}[why]
    assert office.job(job, "status", "released") == (status, 1 if why == "stopping" else 0)
    assert office.hashes() == {}
    assert office.table("silver.uploaded_rows") == []
    assert office.errors(job) == []
    assert bool(office.staging()) is (why == "lost")


def test_an_outage_is_tried_again_after_a_pause_and_ends_as_failed_with_a_letter(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise TransientError("PostgreSQL is away")

    job = office.enter(SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(import_staged, "stage", away)
        for attempt in (1, 2, 3):
            office.work()
            last = attempt == 3
            found = office.job(job, "status", "error", "next_attempt_at > now()")
            assert found == ("FAILED" if last else "PENDING", "unavailable", not last or found[2])
            ask(office.database, "UPDATE ingestion_jobs SET next_attempt_at = now()")
    assert office.hashes() == {}
    office.work()
    assert [row["stage"] for row in office.table("ops.dead_letters")] == ["import"]


def test_a_file_that_is_gone_from_storage_fails_its_job(office: Office) -> None:
    job = office.enter(SMALL)
    (key,) = office.job(job, "storage_key")
    office.landing.delete(key)
    office.work()
    assert office.job(job, "status", "error") == ("FAILED", "file_missing")


def order(path: Path, run_id: str, dataset: str | None = "contacts", tenant: str | None = "acme") -> Launch:
    return Launch("import-files", (), False, run_id, file=str(path), dataset=dataset, tenant=tenant)


def test_a_scheduler_imports_a_file_and_a_second_run_finds_it_done(office: Office, tmp_path: Path) -> None:
    def run(wanted: Launch) -> dict[str, Any]:
        context = Context(cast(SparkSession, NoSpark()), office.settings, wanted.run_id or "")
        return import_one(context, Runtime(context, once=True, alone=False), wanted)

    path = tmp_path / "people.csv"
    path.write_bytes(contacts(1, 5))
    first = run(order(path, "monday"))
    assert (first["import"]["status"], first["import"]["rows_inserted"]) == ("COMPLETED", 5)
    again, later = run(order(path, "monday")), run(order(path, "tuesday"))
    assert again["status"] == later["status"] == "noop"
    assert {again["import"]["job_id"], later["import"]["job_id"]} == {first["import"]["job_id"]}
    assert office.left() == []
    path.write_bytes(contacts(1, 5, "6\n"))
    with pytest.raises(QualityError, match="too_many_invalid"):
        run(order(path, "wednesday"))
    path.write_bytes(b"%PDF-1.7 no rows")
    with pytest.raises(QualityError, match="none of CSV"):
        run(order(path, "thursday"))
    with pytest.raises(SetupError, match="cannot be read"):
        run(order(tmp_path / "gone.csv", "friday"))
    with pytest.raises(SetupError, match="--tenant"):
        run(order(path, "friday", tenant=None))
    with pytest.raises(SetupError, match="--dataset"):
        run(order(path, "friday", dataset="no such"))
