"""The race to ingested_data: rows of a file from Parquet by the import's staging and upsert, a CSV file of
them by psql's \\copy.

Both write the same table with the same indexes, as the same role, in a database of the race's own. Ours
copies with two threads in the place of Spark's tasks, and knows at its end which rows are new;
\\copy would fail at the first row that is there already. In the second race as many other rows of the
dataset are there. The CPU is that of PostgreSQL's backends and of the client together.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet
from pyarrow.csv import CSVWriter, WriteOptions

from headwater.postgres import writer_conninfo
from headwater.settings import Settings
from jobs.file_rows import chunk_rows, file_chunks
from local.postgres import dsn
from sinks.ingested_data import PARTITIONS, SESSION, stage, upsert
from sinks.postgres_lines import CopyTarget, Lines, Sent, row_lines, send
from sources.import_jobs import ENTER
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.uploads.harness import new_job
from tests.integration.uploads.staged_rows import staging_of
from tests.perf.backend_cpu import spent_in
from tests.perf.figures import OURS, Figure, interleaved, proven, rate
from tests.perf.peer_postgres import copy_file
from tests.perf.rows import CONTACTS, made_file
from transformations.rows import VALID

COPY = "psql \\copy"
TENANT = "acme"
COLUMNS = ("tenant_id", "dataset", "content_hash", "data", "first_job", "last_job", "row_version")
_OTHERS = """
CREATE TEMP TABLE others AS
  SELECT tenant_id, dataset, sha256(content_hash) AS content_hash, data, first_job, last_job, row_version
  FROM ingested_data;
TRUNCATE ingested_data, ingestion_jobs CASCADE;
INSERT INTO ingested_data (tenant_id, dataset, content_hash, data, first_job, last_job, row_version)
  SELECT * FROM others ORDER BY content_hash;
DROP TABLE others;
"""


@dataclass
class Turns:
    """One contender's CPU in each round, µs a row; the first round warms up."""

    cpu: list[float] = field(default_factory=list)


def race(rows: int, rounds: int) -> list[Figure]:
    """Rows a second and CPU a row, into an empty table and beside as many other rows of the dataset."""
    with TemporaryDirectory() as folder, migrated_database() as database:
        settings = settings_of(database)
        made = made_rows(made_file(Path(folder), rows, 0.0, "csv"))
        file = copy_csv(made, Path(folder) / "rows.csv")
        works = {
            OURS: partial(_imported, settings, made),
            COPY: partial(copy_file, settings.postgres, file, "ingested_data", COLUMNS),
        }
        return [
            figure
            for others, where in ((False, ""), (True, ", beside others"))
            for figure in _figures(database, rows, rounds, works, others, where)
        ]


def _figures(
    database: str, rows: int, rounds: int, works: dict[str, Callable[[], int]], others: bool, where: str
) -> Iterator[Figure]:
    turns = {name: Turns() for name in works}
    turn = {name: partial(_turn, database, rows, others, work, turns[name]) for name, work in works.items()}
    for name, speeds in interleaved(rounds, turn).items():
        cpu = tuple(turns[name].cpu[1:])
        yield Figure("ingested", name, f"rows/s{where}", speeds)
        yield Figure("ingested", name, f"µs of CPU a row{where}", cpu, higher_is_better=False)


def _turn(database: str, rows: int, others: bool, work: Callable[[], int], turns: Turns) -> float:
    """Rows a second. What the table holds afterwards is counted, in time that is not measured."""
    with psycopg.connect(dsn("postgres", "postgres-superuser", database), autocommit=True) as server:
        server.execute("TRUNCATE ingested_data, ingestion_jobs CASCADE")
        if others:
            work()
            server.execute(_OTHERS)
            server.execute("VACUUM (ANALYZE) ingested_data")
        server.execute("CHECKPOINT")
        with spent_in(database) as spent:
            speed = rate(rows, work)
        turns.cpu.append(spent.seconds / rows * 1_000_000)
        found = server.execute("SELECT count(*), count(DISTINCT content_hash) FROM ingested_data").fetchone()
        wanted = rows * 2 if others else rows
        proven(wanted, found[0] if found else 0)
        proven(wanted, found[1] if found else 0)
    return speed


def _imported(settings: Settings, made: Path) -> int:
    """Ours: rows that were inserted."""
    job = new_job(tenant_id=TENANT, dataset=CONTACTS.name)
    where = writer_conninfo(settings.postgres, "bench", SESSION)
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(ENTER, job.parameters())
        stage(where, staging_of(job.id), partial(_copied, made))
        with connection.transaction():
            return upsert(connection, staging_of(job.id), job.id, TENANT, CONTACTS.name).inserted


def _copied(made: Path, target: CopyTarget) -> list[Sent]:
    with ThreadPoolExecutor(PARTITIONS) as pool:
        sent = pool.map(lambda part: send(target, _lines(made, part)), range(PARTITIONS))
        return [one for one in sent if one]


def _lines(made: Path, part: int) -> Iterator[Lines]:
    """Every so manyth row group, as lines of COPY."""
    with parquet.ParquetFile(made) as file:
        for number in range(part, file.num_row_groups, PARTITIONS):
            yield from row_lines(file.iter_batches(10_000, row_groups=[number]))


def made_rows(path: Path) -> Path:
    """The valid rows of a made CSV file, with hash, canonical JSON and line, as Parquet beside it."""
    made = path.with_name("rows.parquet")
    with parquet.ParquetWriter(made, VALID) as writer:
        for chunk in file_chunks(path, "csv", CONTACTS, path.parent):
            for found in chunk_rows(chunk, CONTACTS):
                writer.write_table(found.valid)
    return made


def copy_csv(made: Path, file: Path) -> Path:
    """The same rows as \\copy takes them, all columns that no default fills."""
    job: UUID = uuid4()
    kinds = pa.schema([(name, pa.int64() if name == "row_version" else pa.string()) for name in COLUMNS])
    options = WriteOptions(include_header=False)
    with parquet.ParquetFile(made) as source, CSVWriter(file, kinds, write_options=options) as sink:
        for batch in source.iter_batches():
            hashes = pc.binary_join_element_wise("\\x", batch["content_hash"], "")
            fixed = [pa.repeat(text, len(batch)) for text in (TENANT, CONTACTS.name, str(job))]
            columns = [fixed[0], fixed[1], hashes, batch["data"], fixed[2], fixed[2], batch["line"]]
            sink.write(pa.record_batch(columns, schema=kinds))
    return file
