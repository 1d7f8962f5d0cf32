"""Imports that are killed, broken off, shared or without their servers: the tables are right in the end."""

import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.sql import SparkSession

from headwater.errors import QualityError, SetupError, TransientError
from jobs import compact as compacting
from jobs import import_files, import_leftovers, import_staged
from jobs.import_lease import Lease
from jobs.import_one import import_one
from jobs.launch import Launch
from jobs.queries import Context
from jobs.runtime import Runtime
from sources.landing.base import new_key
from tests.integration.broker import eventually
from tests.integration.uploads.harness import ask
from tests.integration.uploads.imports import (
    NoSpark,
    Office,
    assert_imported_once,
    assert_killed,
    contact,
    contacts,
)

SMALL = contacts(1, 30, contact(31, email="nobody"))
BREAK_OFF = {
    "cancelled": "UPDATE ingestion_jobs SET cancel_requested = true",
    "lost": "UPDATE ingestion_jobs SET attempts = attempts + 1",
}


@pytest.mark.parametrize("point", ["before_write", "in_transaction", "after_write"])
def test_a_killed_worker_leaves_what_another_makes_right(office: Office, point: str) -> None:
    job = office.enter(SMALL)
    assert_killed(office, job, point)
    office.work()
    assert_imported_once(office, job, 30)


def test_a_job_that_died_behind_its_appends_is_done_though_its_end_was_wanted(office: Office) -> None:
    job = office.enter(SMALL)
    assert_killed(office, job, "after_write")
    ask(office.database, "UPDATE ingestion_jobs SET cancel_requested = true, attempts = 3")
    office.work()
    assert office.job(job, "status", "error") == ("PENDING", "worker_lost")
    ask(office.database, "UPDATE ingestion_jobs SET next_attempt_at = now()")
    office.work()
    assert_imported_once(office, job, 30)


def test_who_waits_for_a_job_that_can_neither_be_done_nor_ended_is_told(office: Office) -> None:
    job = office.enter(SMALL)
    assert_killed(office, job, "after_write")
    office.landing.delete(office.job(job, "storage_key")[0])
    worker = office.worker(only=job)
    with pytest.raises(QualityError, match="file_missing"):
        while worker.step():
            pass
    worker.close()
    assert office.job(job, "status") == ("PENDING",)


def test_a_worker_goes_on_without_what_it_cannot_clear_up(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> int:
        raise SetupError("no right to do that")

    monkeypatch.setattr(compacting, "compact", refused)
    monkeypatch.setattr(import_leftovers, "discard_orphans", refused)
    job = office.enter(SMALL)
    office.work()
    assert_imported_once(office, job, 30)
    told = [line["event"] for line in office.log if line["log_level"] == "warning"]
    assert told == ["import_leftovers_not_removed", "not_compacted", "not_compacted"]


def test_a_file_goes_whoever_ended_its_job_and_is_kept_where_that_is_wanted(office: Office) -> None:
    ended = "UPDATE ingestion_jobs SET status = 'CANCELLED', finished_at = now()"
    job = office.enter(SMALL)
    ask(office.database, ended)
    office.settings = office.with_uploads(keep_files="failed")
    office.work()
    assert len(office.left()) == 1
    assert office.job(job, "file_gone_at") == (None,)
    office.settings = office.with_uploads(keep_files="none")
    killed = office.start(
        "import-files", "--once",
        HEADWATER_FAILPOINT="import-files:file_gone", HEADWATER_UPLOADS__KEEP_FILES="none",
    ).wait()  # fmt: skip
    assert killed.code == -9, killed.why
    office.work()
    assert office.left() == []
    assert office.job(job, "file_gone_at IS NOT NULL") == (True,)


def test_what_killed_uploads_and_workers_left_is_swept(office: Office) -> None:
    job = office.enter(SMALL)
    assert_killed(office, job, "before_write")
    ask(office.database, "UPDATE ingestion_jobs SET attempts = attempts + 1, lease_until = now() + '1 hour'")
    path = Path(office.settings.uploads.folder)
    kept, jobless, young = (
        (path / office.job(job, "storage_key")[0]),
        *(path / new_key(uuid.uuid4(), date(2026, 3, number)) for number in (1, 2)),
    )
    for made in (jobless, young):
        made.parent.mkdir()
        made.write_bytes(SMALL)
    os.utime(jobless, (0, 0))
    os.utime(kept, (0, 0))
    staged = Path(office.settings.lake) / "staging"
    (staged / f"import_{job.hex}_1").mkdir(parents=True)
    (staged / f"import_{job.hex}_2").mkdir()
    assert office.staging() == [f"import_{job.hex}_1"]
    office.work()
    assert office.staging() == []
    assert [one.name for one in staged.iterdir()] == [f"import_{job.hex}_2"]
    assert [one.exists() for one in (kept, jobless, young)] == [True, False, True]


def test_a_worker_that_is_killed_when_all_is_done_leaves_only_the_file(office: Office) -> None:
    job = office.enter(SMALL)
    killed = office.start("import-files", "--once", HEADWATER_FAILPOINT="import-files:before_commit").wait()
    assert killed.code == -9, killed.why
    assert office.work() == 0
    assert_imported_once(office, job, 30)
    assert office.left() == []


def test_two_workers_share_a_queue_of_files_with_the_same_rows(office: Office) -> None:
    jobs = [office.enter(contacts(1, 20 + number)) for number in range(6)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: office.work(), range(2)))
    assert sum(done) == 6
    assert [office.job(job, "status", "attempts") for job in jobs] == [("COMPLETED", 1)] * 6
    assert sorted(office.hashes().values()) == [1, 2, 3, 4, 5, *[6] * 20]
    assert len(office.table("silver.uploaded_rows")) == sum(20 + number for number in range(6))


@pytest.mark.parametrize("why", ["cancelled", "lost", "stopping"])
def test_an_import_that_is_broken_off_writes_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    office.settings = office.with_uploads(lease_s=3)
    stopping, leases = threading.Event(), list[Lease]()
    stage = import_staged.stage

    class Seen(Lease):
        def __enter__(self) -> Lease:
            leases.append(self)
            return super().__enter__()

    def broken_off(*given: Any) -> None:
        stage(*given)
        if why == "stopping":
            stopping.set()
        else:
            ask(office.database, BREAK_OFF[why])
        eventually(lambda: leases[0].why is not None, "the lease has heard of it")

    monkeypatch.setattr(import_staged, "stage", broken_off)
    monkeypatch.setattr(import_files, "Lease", Seen)
    job = office.enter(SMALL)
    worker = office.worker(stopping=stopping)
    worker.step()
    worker.close()
    status = {"cancelled": "CANCELLED", "lost": "PROCESSING", "stopping": "PENDING"}[why]
    assert office.job(job, "status", "released") == (status, 1 if why == "stopping" else 0)
    assert (office.hashes(), office.table("silver.uploaded_rows"), office.errors(job)) == ({}, [], [])
    assert office.staging() == []


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

    path = tmp_path / os.fsdecode(b"people-\xff.csv")
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
