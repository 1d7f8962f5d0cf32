"""How fast are imports? `python -m tests.perf.imports [--small N] [--rows N] [--rounds N]`

Real jobs on PostgreSQL, with a lake, storage and a database of their own. First N small files, each its own
job, done by one worker without Spark: jobs a minute. Then a large file of contacts, 12 columns, by Spark,
imported anew in each round as another tenant's: rows a second of each step. Beside staging (parsed, judged,
hashed, in Delta) DuckDB's way from CSV to Parquet with SHA-256, as in `python -m tests.perf.rows`; beside
load and upsert psql's \\copy of the same rows into the same indexed table, as in the race `ingested`. Prints
JSON lines; a round with a twentieth of the rows warms up.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from headwater.session import build_session
from headwater.settings import Settings
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.uploads.harness import ask
from tests.integration.uploads.imports import Office, contacts, settings_for
from tests.perf.figures import proven
from tests.perf.peer_postgres import copy_file
from tests.perf.race_ingested import COLUMNS, copy_csv, made_rows
from tests.perf.rows import made_file, peer

SMALL_ROWS = 50
_STEPS = ("unpack", "stage", "load", "upsert", "append")


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--small", type=int, default=200, help="small files")
    options.add_argument("--rows", type=int, default=500_000, help="of the large file; 0: none")
    options.add_argument("--rounds", type=int, default=3)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, migrated_database() as database:
        office = Office(settings_for(settings_of(database), Path(folder)), database)
        tell(small_files(office, asked.small))
        if asked.rows:
            spark = build_session(_driver(office.settings), "bench imports")
            tell(large_file(office, spark, Path(folder), asked.rows, asked.rounds))
            spark.stop()


def tell(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def small_files(office: Office, count: int) -> dict[str, Any]:
    """Jobs a minute, of files that share no row; and CPU, which other work on the machine disturbs less."""
    jobs = [office.enter(contacts(SMALL_ROWS * n, SMALL_ROWS * (n + 1) - 1)) for n in range(count)]
    began, busy = time.monotonic(), time.process_time()
    office.work()
    seconds, busy = time.monotonic() - began, time.process_time() - busy
    proven(count, sum(office.job(job, "status") == ("COMPLETED",) for job in jobs))
    proven(count * SMALL_ROWS, len(office.hashes()))
    per_job = round(1000 * busy / count)
    return {"small_files": count, "jobs_a_minute": round(60 * count / seconds), "cpu_ms_a_job": per_job}


def large_file(office: Office, spark: SparkSession, folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """The median of each step's rows a second, and of the peers'."""
    _import(office, spark, made_file(folder, max(rows // 20, 1), 0.0, "csv"), max(rows // 20, 1), "warm-up")
    path = made_file(folder, rows, 0.0, "csv")
    copied = copy_csv(made_rows(path), folder / "rows.csv")
    names = (*_STEPS, "into PostgreSQL", "all", "duckdb", "copy")
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        seconds = _import(office, spark, path, rows, f"tenant{number}")
        seconds["into PostgreSQL"] = seconds["load"] + seconds["upsert"]
        seconds["duckdb"] = _seconds(lambda: peer(path, folder, "csv", rows))
        ask(office.database, "TRUNCATE ingested_data")
        seconds["copy"] = _seconds(
            lambda: copy_file(office.settings.postgres, copied, "ingested_data", COLUMNS)
        )
        for name, spent in seconds.items():
            taken[name].append(spent)
    found = {name: round(rows / max(statistics.median(spent), 0.001)) for name, spent in taken.items()}
    return {
        "rows": rows,
        "rows_a_second": found,
        "staging_to_duckdb": round(found["stage"] / found["duckdb"], 2),
        "into_postgresql_to_copy": round(found["into PostgreSQL"] / found["copy"], 2),
    }


def _import(office: Office, spark: SparkSession, path: Path, rows: int, tenant: str) -> dict[str, float]:
    """Seconds of an import, and of its steps."""
    ask(office.database, "TRUNCATE ingested_data")
    job = office.enter(path, "contacts", tenant_id=tenant)
    seconds = {"all": _seconds(lambda: office.work(spark))}
    proven(rows, office.counts(job)[4])
    return seconds | office.job(job, "timings")[0]


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _driver(settings: Settings) -> Settings:
    spark = settings.spark.model_copy(update={"conf": {"spark.ui.enabled": "false"}})
    return settings.model_copy(update={"spark": spark})


if __name__ == "__main__":
    main()
