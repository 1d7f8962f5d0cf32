"""Imports by Spark's workers: killed, broken off, of broken files; the tables are right in the end."""

import io
import time
from collections.abc import Iterable, Iterator
from uuid import UUID

import pyarrow as pa
import pytest
from pyarrow import parquet
from pyspark.sql import DataFrame, SparkSession

from jobs import import_stage, import_staged
from tests.integration.uploads.harness import ask
from tests.integration.uploads.imports import Office, assert_imported_once, assert_killed, contact, contacts

NOBODY = contact(900, email="nobody")
SMALL = contacts(1, 30, NOBODY)
LARGE = contacts(1, 20_000, NOBODY)


def test_a_large_file_is_judged_by_sparks_workers_and_leaves_nothing_behind(
    office: Office, spark: SparkSession
) -> None:
    job = office.enter(LARGE)
    office.work(spark)
    assert office.counts(job) == ("COMPLETED_WITH_ERRORS", 20_001, 20_000, 1, 20_000, 0, 0)
    assert len({row["source_offset"] for row in office.table("silver.uploaded_rows")}) == 20_000
    assert [row["source_offset"] for row in office.table("ops.dead_letters")] == [20_002]
    assert office.errors(job) == [(20_002, "email", "rule:format")]
    assert office.left() == []
    (timings,) = office.job(job, "timings")
    assert set(timings) == {"unpack", "stage", "load", "upsert", "append"}


def broken_parquet() -> bytes:
    """Two row groups; the second one is damaged."""
    made = io.BytesIO()
    parquet.write_table(pa.table({"n": pa.array(range(4_000))}), made, row_group_size=2_000)
    start = parquet.read_metadata(made).row_group(1).column(0).data_page_offset
    data = bytearray(made.getvalue())
    data[start : start + 100] = b"\xff" * 100
    return bytes(data)


def test_a_file_that_proves_to_be_broken_at_its_end_touches_nothing(
    office: Office, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_stage, "SMALL_BYTES", 0)
    job = office.enter(broken_parquet(), "numbers")
    office.work(spark)
    assert office.job(job, "status", "error", "attempts") == ("FAILED", "malformed_parquet", 1)
    assert (office.hashes(), office.table("silver.uploaded_rows")) == ({}, [])
    assert len(office.left()) == 1, "the file is kept, and nothing else"


def endless(spark: SparkSession) -> None:
    """A job of Spark's that only an interruption ends."""

    def sleep(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(600)
        yield from batches

    spark.range(1).mapInArrow(sleep, "id BIGINT").count()


def test_an_import_that_is_cancelled_ends_sparks_work_at_once_and_writes_nothing(
    office: Office, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.settings = office.with_uploads(lease_s=3)
    monkeypatch.setattr(import_stage, "SMALL_BYTES", 0)
    load = import_staged.load

    def interrupted(rows: DataFrame, dsn: str, job_id: UUID) -> None:
        load(rows, dsn, job_id)
        ask(office.database, "UPDATE ingestion_jobs SET cancel_requested = true")
        endless(spark)

    monkeypatch.setattr(import_staged, "load", interrupted)
    job = office.enter(SMALL)
    office.work(spark)
    assert office.job(job, "status") == ("CANCELLED",)
    assert (office.hashes(), office.table("silver.uploaded_rows"), office.errors(job)) == ({}, [], [])
    assert len(office.left()) == 1, "the file is kept, and nothing else"


def test_a_worker_that_is_killed_while_tasks_run_leaves_what_another_makes_right(
    office: Office, spark: SparkSession
) -> None:
    job = office.enter(LARGE)
    assert_killed(office, job, "task")
    office.work(spark)
    assert_imported_once(office, job, 20_000)
