"""A small lake whose bronze is written as ingest writes it, and the archive that is made of it.

Times of arrival are given by the test: hours that are long over.
"""

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from headwater import delta_log
from headwater.ledger import Entry, write_ledger
from headwater.offsets import Range
from headwater.settings import Settings, load_settings
from headwater.tables import append_rows, table_path
from jobs.archive import Archive
from jobs.archive_plan import Window
from jobs.archive_verify import verify
from jobs.audit import OUTCOMES
from jobs.queries import Context
from jobs.runs import SCHEMA as RUNS
from schemas.contract import contracts
from schemas.tables import JOB_RUNS, LEDGER, bronze
from sinks.archive.base import MANIFEST
from tests.integration.api_server import free_port
from tests.integration.jobs_harness import Job
from tests.integration.lake import Row
from tests.integration.uploads.imports import NoSpark

TEN = datetime(2026, 3, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
TOPIC = "lead.ingest"
BRONZE = pa.schema(
    [
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("kafka_timestamp", pa.timestamp("us", tz="UTC")),
        ("ingested_at", pa.timestamp("us", tz="UTC")),
        ("ingest_date", pa.date32()),
    ]
)
LEDGER_SCHEMA = pa.schema(
    [
        *[(name, pa.string()) for name in ("query", "query_id")],
        ("batch_id", pa.int64()),
        *[(name, pa.string()) for name in ("stream", "tenant_id")],
        *[(name, pa.int64()) for name in ("in_rows", *OUTCOMES)],
        ("offsets", pa.map_(pa.string(), pa.list_(pa.int64()))),
        ("code_version", pa.string()),
        ("written_at", pa.timestamp("us", tz="UTC")),
    ]
)


def lead(number: int, **payload: Any) -> bytes:
    """A valid event."""
    person = {"email": f"p{number}@example.com", "consent": True} | payload
    event = {
        "tenant_id": "acme",
        "idempotency_key": f"k{number}",
        "received_at": "2026-03-01T09:59:58.123Z",
        "source": "web",
        "payload": person,
    }
    return json.dumps(event).encode()


def noise(first: int, count: int, size: int = 2_000) -> list[bytes | None]:
    """Values that say nothing and do not compress."""
    return [hashlib.shake_256(str(n).encode()).digest(size) for n in range(first, first + count)]


@dataclass
class Lake:
    """Bronze of one domain, filled by the test, and its archive."""

    folder: Path
    domain: str = "leads"
    batch: int = 0
    ends: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        base = load_settings("local")
        self.root = self.folder / "archive"
        changes = {"root": str(self.root), "settle_s": 0}
        self.settings: Settings = base.model_copy(
            update={
                "lake": str(self.folder / "lake"),
                "archive": base.archive.model_copy(update=changes),
            }
        )
        table = bronze(self.domain)
        listed = {"delta.dataSkippingStatsColumns": ",".join(table.statistics)}
        self._create(table.full_name, BRONZE, table.partitions, listed)
        self._create(LEDGER.full_name, LEDGER_SCHEMA, (), {})
        self._create(JOB_RUNS.full_name, RUNS, (), {})

    def _create(
        self, name: str, schema: pa.Schema, partitions: Sequence[str], properties: dict[str, str]
    ) -> None:
        delta_log.create(table_path(self.settings, name), schema, partitions, properties)

    @property
    def spark(self) -> SparkSession:
        return cast(SparkSession, NoSpark())

    def configure(self, **changes: Any) -> None:
        """Other settings of the archive."""
        archive = self.settings.archive.model_copy(update=changes)
        self.settings = self.settings.model_copy(update={"archive": archive})

    def arrive(
        self,
        at: datetime,
        values: Sequence[bytes | None],
        topic: str = TOPIC,
        partition: int = 0,
        skip: int = 0,
        headers: list[dict[str, Any]] | None = None,
    ) -> list[int]:
        """A batch of ingest: records of a partition, behind those before, with `skip` offsets left out; in
        the ledger, too. Their offsets."""
        self.batch += 1
        first = self.ends.get((topic, partition), 0) + skip
        rows = [
            {
                "key": f"acme|{offset}".encode(), "value": value, "headers": headers, "topic": topic,
                "partition": partition, "offset": offset, "kafka_timestamp": at - timedelta(seconds=2),
                "ingested_at": at, "ingest_date": at.date(),
            }
            for offset, value in enumerate(values, first)
        ]  # fmt: skip
        self.ends[topic, partition] = first + len(rows)
        table = bronze(self.domain).full_name
        append_rows(self.spark, pa.Table.from_pylist(rows, BRONZE), self.settings, table)
        span = Range(first, first + len(rows) - 1, len(rows))
        stream = next(c.stream for c in contracts().values() if topic in c.sources)
        entry = Entry(stream, None, in_rows=len(rows), offsets={f"{topic}-{partition}": span})
        write_ledger(self.spark, self.settings, f"ingest.{self.domain}", "q", self.batch, [entry])
        return [row["offset"] for row in rows]

    # The archive

    def job(self, window: Window | None = None, stopping: threading.Event | None = None) -> Archive:
        """The loop, prepared; its context has no Spark."""
        self.context = Context(self.spark, self.settings, "test")
        made = Archive(self.context, self.domain, stopping or threading.Event(), window or Window())
        made.prepare()
        return made

    def archive(self, window: Window | None = None) -> list[int]:
        """Take all there is: the records of each step."""
        job = self.job(window)
        found = list(iter(job.step, 0))
        job.close()
        return found

    def verify(self, window: Window | None = None) -> dict[str, int]:
        context = Context(self.spark, self.settings, "test")
        return verify(context, [self.domain], window or Window())

    def start(self, *words: str, **env: str) -> Job:
        """`jobs archive --domain … --once` as a process."""
        archive = self.settings.archive
        given = {
            "HEADWATER_ENV": "local",
            "HEADWATER_LAKE": self.settings.lake,
            "HEADWATER_ARCHIVE__ROOT": archive.root,
            "HEADWATER_ARCHIVE__SETTLE_S": "0",
            "HEADWATER_ARCHIVE__FILE_BYTES": str(archive.file_bytes),
            "HEADWATER_ARCHIVE__MEMORY_BYTES": str(archive.memory_bytes),
            "HEADWATER_METRICS__PORT": str(free_port()),
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADWATER_", "SPARK_", "PYSPARK_"))}
        ports = {k: v for k, v in os.environ.items() if k.startswith("HEADWATER_PORT_")}
        log = self.folder / "job.log"
        command = [sys.executable, "-m", "jobs", "archive", "--domain", self.domain, *words]
        return Job(command, kept | ports | given | env, log)

    # What there is

    def hour(self, hour: datetime, topic: str = TOPIC) -> Path:
        return self.root / f"topic={topic}" / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}"

    def manifest(self, hour: datetime, topic: str = TOPIC) -> dict[str, Any]:
        return dict(json.loads((self.hour(hour, topic) / MANIFEST).read_text()))

    def rows(self, hour: datetime, topic: str = TOPIC) -> list[Row]:
        """The rows of an hour's files, in the order of the manifest."""
        folder = self.hour(hour, topic)
        names = [file["name"] for file in self.manifest(hour, topic)["files"]]
        return [row for name in names for row in pq.ParquetFile(folder / name).read().to_pylist()]

    def places(self, hour: datetime, topic: str = TOPIC) -> list[tuple[int, int]]:
        return [(row["partition"], row["offset"]) for row in self.rows(hour, topic)]

    def everything(self) -> dict[str, str]:
        """Every file of the archive, by its hash."""
        return {str(path.relative_to(self.root)): _hash(path) for path in sorted(_files(self.root))}


def _files(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*") if path.is_file())


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
