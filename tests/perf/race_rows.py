"""The race of rows: a made file of contacts, 12 columns, as CSV and as NDJSON.

Ours: two processes read, judge and hash its chunks, as tasks of an import do, and write what is valid as
Parquet, which one commit makes a Delta table. The peer: DuckDB with two threads parses with the same types,
hashes all columns joined and writes Parquet; it says of no row why it is wrong. Spark is left out on both
sides. What is at the destination is counted in time that is not measured.
"""

import shutil
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from deltalake import DeltaTable, convert_to_deltalake
from pyarrow import parquet

from jobs.file_rows import chunk_rows, file_chunks
from schemas.rows import Chunk
from tests.perf.figures import OURS, Figure, interleaved, proven, rate
from tests.perf.rows import CONTACTS, made_file, peer

DUCKDB = "DuckDB"
PROCESSES = 2


def race(rows: int, rounds: int) -> list[Figure]:
    """Rows a second of each format."""
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        return [
            figure
            for format_name in ("csv", "ndjson")
            for figure in _figures(pool, format_name, rows, rounds)
        ]


def _figures(pool: Executor, format_name: str, rows: int, rounds: int) -> list[Figure]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = made_file(folder, rows, 0.0, format_name)
        found = interleaved(
            rounds,
            {
                OURS: partial(_ours, pool, path, folder / "table", rows),
                DUCKDB: lambda: rate(rows, lambda: peer(path, folder, format_name, rows)),
            },
        )
        return [
            Figure("rows", contender, f"rows/s, {format_name}", speeds) for contender, speeds in found.items()
        ]


def _ours(pool: Executor, path: Path, table: Path, rows: int) -> float:
    """Rows a second, into a table that is made anew."""
    shutil.rmtree(table, ignore_errors=True)
    table.mkdir()
    speed = rate(rows, lambda: _imported(pool, path, table))
    proven(rows, DeltaTable(table).to_pyarrow_dataset().count_rows())
    return speed


def _imported(pool: Executor, path: Path, table: Path) -> int:
    chunks = file_chunks(path, path.suffix[1:], CONTACTS, table)
    valid = sum(pool.map(partial(_written, table), chunks))
    convert_to_deltalake(table)
    return valid


def _written(table: Path, chunk: Chunk) -> int:
    """In a process of the pool: the chunk's valid rows as a file of the table."""
    valid = 0
    for part, found in enumerate(chunk_rows(chunk, CONTACTS)):
        made = found.values.append_column("content_hash", found.valid.column("content_hash"))
        parquet.write_table(made, table / f"{chunk.number}-{part}.parquet", compression="snappy")
        valid += found.counts.valid
    return valid
