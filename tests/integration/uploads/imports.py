"""Files that are imported: entered as an upload enters them, done by a worker in this process or another."""

import io
import json
import os
import sys
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from pyspark.sql import SparkSession

from headwater import delta_log
from headwater.settings import Settings
from headwater.tables import table_path
from jobs.import_files import ImportFiles
from jobs.queries import Context
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS, UPLOADED_ROWS
from sources import sniff
from sources.import_jobs import NewJob
from sources.import_queue import ImportQueue
from sources.landing.base import new_key, store
from sources.landing.registry import landing_of
from tests.integration.api_server import free_port
from tests.integration.jobs_harness import Job
from tests.integration.lake import Row, live_files, rows_of
from tests.integration.uploads.harness import ask
from transformations.upload_tables import SILVER

HEADER = "contact_id,email,first_name,country,balance,updated_at\n"


def contact(number: int, **changes: str) -> str:
    """A valid line of `contacts`, changed."""
    row = {
        "contact_id": str(number),
        "email": f"P{number}@Example.com",
        "first_name": "Zoë",
        "country": "DE",
        "balance": f"{number}.50",
        "updated_at": "2026-03-01T12:00:00Z",
    } | changes
    return ",".join(row.values()) + "\n"


def contacts(first: int, last: int, *wrong: str) -> bytes:
    """A file of valid lines, and then the wrong ones."""
    return (HEADER + "".join(map(contact, range(first, last + 1))) + "".join(wrong)).encode()


def settings_for(base: Settings, folder: Path, **uploads: Any) -> Settings:
    """Settings with a lake, storage and scratch folder of the test's own."""
    places = {"folder": folder / "uploads", "scratch": folder / "scratch"}
    return base.model_copy(
        update={
            "lake": str(folder / "lake"),
            "uploads": base.uploads.model_copy(update=places | uploads),
        }
    )


class NoSpark:
    """A session for those who must not need one."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"Spark was asked for {name}")


class Office:
    """Where files are entered and what is there afterwards. Its tables were made without Spark."""

    def __init__(self, settings: Settings, database: str) -> None:
        self.settings, self.database = settings, database
        self.log: list[Any] = []
        self.landing = landing_of(settings)
        for table, schema in ((UPLOADED_ROWS, SILVER), (DEAD_LETTERS, LETTERS)):
            delta_log.create(table_path(settings, table.full_name), schema, (), {})

    def enter(
        self, content: bytes | Path, dataset: str = "contacts", tenant_id: str = "acme", **options: Any
    ) -> uuid.UUID:
        """A file in storage, and its job."""
        job_id = uuid.uuid4()
        key = new_key(job_id, datetime.now(UTC).date())
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as source:
            kind = sniff.sniff(source.read(sniff.HEAD_BYTES))
            source.seek(0)
            stored = store(self.landing, key, source, self.settings.uploads.part_bytes)
        assert kind
        new = NewJob(job_id, tenant_id, dataset, key, "people", kind, options, stored.size, stored.sha256)
        queue = ImportQueue(self.settings, "sender")
        queue.enter(new)
        queue.close()
        return job_id

    def worker(
        self,
        spark: SparkSession | None = None,
        stopping: threading.Event | None = None,
        only: uuid.UUID | None = None,
    ) -> ImportFiles:
        """A worker that is prepared; without a session it must not need one."""
        context = Context(spark or cast(SparkSession, NoSpark()), self.settings, "test")
        made = ImportFiles(context, stopping or threading.Event(), only)
        made.prepare()
        return made

    def work(self, spark: SparkSession | None = None) -> int:
        """Take all there is: how many steps did something."""
        worker, done = self.worker(spark), 0
        try:
            while worker.step():
                done += 1
        finally:
            worker.close()
        return done

    def job(self, job_id: uuid.UUID, *columns: str) -> tuple[Any, ...]:
        """Columns of a job."""
        names = ", ".join(columns)
        return ask(self.database, f"SELECT {names} FROM ingestion_jobs WHERE id = %s", job_id)[0]  # noqa: S608 - own

    def counts(self, job_id: uuid.UUID) -> tuple[Any, ...]:
        """Its status, then rows read, valid, invalid, inserted, updated, unchanged."""
        names = ("read", "valid", "invalid", "inserted", "updated", "unchanged")
        return self.job(job_id, "status", *(f"rows_{name}" for name in names))

    def errors(self, job_id: uuid.UUID) -> list[tuple[Any, ...]]:
        """Lines, columns and codes of its row errors."""
        return ask(
            self.database,
            "SELECT line, column_name, code FROM validation_errors WHERE job_id = %s ORDER BY id",
            job_id,
        )

    def table(self, name: str) -> list[Row]:
        """The rows of a Delta table; none where it is not there."""
        folder = Path(self.settings.lake) / name.replace(".", "/")
        return [row for part in live_files(folder) for row in rows_of(folder, part, None)]

    def hashes(self) -> dict[str, int]:
        """The rows in PostgreSQL: how many jobs have seen each."""
        return dict(ask(self.database, "SELECT encode(content_hash, 'hex'), seen_count FROM ingested_data"))

    def left(self) -> list[str]:
        """What is left of imports that have ended: files, staged tables, scratch copies."""
        lake = Path(self.settings.lake)
        folders = (Path(self.settings.uploads.folder), lake / "staging", self.settings.scratch_root)
        found = [str(p.relative_to(f)) for f in folders for p in f.rglob("*") if p.is_file()]
        locks = [path.name for path in (lake / "_locks").glob("commit.staging.*")]
        return [*found, *locks, *self.staging()]

    def staging(self) -> list[str]:
        """PostgreSQL's staging tables of imports."""
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'staging' AND tablename ~ '^import'"
        return [name for (name,) in ask(self.database, query)]

    def with_uploads(self, **changes: Any) -> Settings:
        """The settings with other ones of uploads."""
        uploads = self.settings.uploads.model_copy(update=changes)
        return self.settings.model_copy(update={"uploads": uploads})

    def start(self, *words: str, **env: str) -> Job:
        """A worker as a process."""
        found, postgres = self.settings, self.settings.postgres
        given = {
            "HEADWATER_ENV": "local",
            "HEADWATER_LAKE": found.lake,
            "HEADWATER_POSTGRES__DSN": postgres.dsn,
            "HEADWATER_UPLOADS__FOLDER": str(found.uploads.folder),
            "HEADWATER_UPLOADS__SCRATCH": str(found.uploads.scratch),
            "HEADWATER_METRICS__PORT": str(free_port()),
            "HEADWATER_SPARK__DRIVER_MEMORY": "1g",
            "HEADWATER_SPARK__CONF": json.dumps({"spark.ui.enabled": "false"}),
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADWATER_", "SPARK_", "PYSPARK_"))}
        ports = {k: v for k, v in os.environ.items() if k.startswith("HEADWATER_PORT_")}
        log = Path(found.lake).with_name("worker.log")
        return Job([sys.executable, "-m", "jobs", *words], kept | ports | given | env, log)


def assert_killed(office: Office, job: uuid.UUID, point: str) -> None:
    """A worker as a process dies there; then its lease is over."""
    killed = office.start("import-files", "--once", HEADWATER_FAILPOINT=f"import-files:{point}").wait()
    assert killed.code == -9, killed.why
    assert office.job(job, "status") == ("PROCESSING",)
    assert office.hashes() == {}
    ask(office.database, "UPDATE ingestion_jobs SET lease_until = now()")


def assert_imported_once(office: Office, job: uuid.UUID, rows: int) -> None:
    """So many valid rows and an invalid one behind them are in every table, once."""
    assert office.counts(job) == ("COMPLETED_WITH_ERRORS", rows + 1, rows, 1, rows, 0, 0)
    assert list(office.hashes().values()) == [1] * rows
    silver = [row["source_offset"] for row in office.table("silver.uploaded_rows")]
    assert sorted(silver) == list(range(2, rows + 2))
    assert [row["source_offset"] for row in office.table("ops.dead_letters")] == [rows + 2]
    assert [line for line, _, _ in office.errors(job)] == [rows + 2]
