"""What does a row of an uploaded file cost? `python -m tests.perf.rows [--rows N] [--broken SHARE]`

A made file of the dataset `contacts`, 12 columns, as CSV or NDJSON → chunks → rows with hashes, in this
process, without Spark; each chunk is also written as Parquet, so that the same is done as by the peer.
Beside it DuckDB: parse with the same types, SHA-256 of all columns joined, Parquet. Prints microseconds of
CPU a row of the whole, of steps within it and of the peer, as JSON lines: the least of all rounds, which
other work on the machine disturbs least, and the median. `--profile` says where the time of a round goes.
"""

import argparse
import cProfile
import gc
import json
import pstats
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time_ns
from typing import Any

import duckdb
from pyarrow import parquet

from jobs.file_rows import chunk_rows, file_chunks
from schemas.dataset import dataset
from sources.parsers import PARSERS
from tests.perf.figures import proven
from transformations.cell_columns import cleaned
from transformations.content_hash import content_json, hashes
from transformations.rows import judge_rows

CONTACTS = dataset("contacts")
_NAMES = ["Ada", "José", "Grace", "Linus", "Zoë", "Barbara", "Edsger", "Frances", "Tim", "Margaret"]
_TYPES = {"integer": "BIGINT", "number": "DECIMAL(15,2)", "boolean": "BOOLEAN", "date": "DATE"}
_TOP = 25


def main() -> None:
    """Measure, and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--broken", type=float, default=0.0, help="share of rows that are wrong somehow")
    options.add_argument("--format", choices=("csv", "ndjson"), default="csv")
    options.add_argument("--profile", action="store_true")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = made_file(Path(folder), asked.rows, asked.broken, asked.format)
        work = steps(path, Path(folder), asked.format, asked.rows)
        if asked.broken:
            del work["duckdb"]  # it would stop, or leave out what it does not like
        gc.freeze()
        rounds = [
            {name: cost(step, asked.rows) for name, step in work.items()} for _ in range(asked.rounds + 1)
        ]
        for name, summary in (("least", min), ("median", statistics.median)):
            told = {step: round(summary([one[step] for one in rounds[1:]]), 2) for step in work}
            print(json.dumps({"us_a_row": name, **told}), flush=True)
        if asked.profile:
            profiled(work["all"])


def made_file(folder: Path, rows: int, broken: float, format_name: str) -> Path:
    """Contacts as a CRM exports them: some quoted texts, some letters beyond ASCII, some empty fields."""
    dice = random.Random(1)  # noqa: S311 a made file is no secret
    path = folder / f"contacts.{format_name}"
    names = [column.name for column in CONTACTS.columns]
    with path.open("w", encoding="utf-8", newline="") as file:
        if format_name == "csv":
            file.write(",".join(names) + "\n")
        for number in range(rows):
            fields = _fields(dice, number, dice.random() < broken)
            file.write(_csv(fields) if format_name == "csv" else _ndjson(names, fields))
    return path


def _fields(dice: random.Random, number: int, is_broken: bool) -> list[str]:
    first, last = dice.choice(_NAMES), dice.choice(_NAMES)
    fields = [
        str(number),
        f"{first}.{last}.{number}@Example.com".replace("é", "e").replace("ë", "e"),
        first,
        last,
        f"+49 30 {dice.randrange(10**7)}" if number % 3 else "",
        f"{last}, {first} & Sons" if number % 4 == 0 else f"{last} Ltd",
        dice.choice(["DE", "FR", "US", "GB"]),
        f"{dice.randrange(1940, 2008)}-{dice.randrange(1, 13):02}-{dice.randrange(1, 29):02}",
        f"{dice.randrange(-10_000, 100_000) / 100:.2f}",
        dice.choice(["true", "false"]),
        f"2026-{dice.randrange(1, 13):02}-{dice.randrange(1, 29):02}T{number % 24:02}:00:{number % 60:02}Z",
        f"met at stand {dice.randrange(400)}" if number % 2 else "",
    ]
    if is_broken:
        fields[dice.randrange(len(fields))] = dice.choice(["", "x" * 300, "2026-02-30", 'a"b', "\0", "x,y"])
    return fields


def _csv(fields: list[str]) -> str:
    return ",".join(f'"{field}"' if ", " in field else field for field in fields) + "\n"


def _ndjson(names: list[str], fields: list[str]) -> str:
    said = {name: field for name, field in zip(names, fields, strict=True) if field}
    return json.dumps({**said, "contact_id": int(fields[0])}, ensure_ascii=False) + "\n"


def steps(path: Path, folder: Path, format_name: str, rows: int) -> dict[str, Callable[[], Any]]:
    """The whole, and its steps on the same rows: each can be run again and again."""
    parser, judge = PARSERS[format_name], judge_rows(CONTACTS)
    chunks = list(file_chunks(path, format_name, CONTACTS, folder))
    parsed = [part for chunk in chunks for part in parser.read(chunk, CONTACTS)]
    texts = [{name: cleaned(column) for name, column in part.columns.items()} for part in parsed]
    data = [content_json(columns, len(part.lines)) for columns, part in zip(texts, parsed, strict=True)]

    def whole() -> None:
        read = 0
        for chunk in file_chunks(path, format_name, CONTACTS, folder):
            for found in chunk_rows(chunk, CONTACTS):
                made = found.values.append_column("content_hash", found.valid.column("content_hash"))
                parquet.write_table(made, folder / f"{chunk.number}.parquet", compression="snappy")
                read += found.counts.read
        proven(rows, read)

    return {
        "all": whole,
        "split": lambda: list(file_chunks(path, format_name, CONTACTS, folder)),
        "parse": lambda: [list(parser.read(chunk, CONTACTS)) for chunk in chunks],
        "judge": lambda: [judge(part) for part in parsed],
        "clean": lambda: [cleaned(column) for part in parsed for column in part.columns.values()],
        "json": lambda: [content_json(columns, len(data[at])) for at, columns in enumerate(texts)],
        "hash": lambda: [hashes(column) for column in data],
        "duckdb": lambda: peer(path, folder, format_name, rows),
    }


def peer(path: Path, folder: Path, format_name: str, rows: int) -> int:
    """DuckDB on the same file: parse, SHA-256, Parquet. The rows that it wrote, which are all."""
    kinds = {column.name: _TYPES.get(column.kind, "VARCHAR") for column in CONTACTS.columns}
    kinds["updated_at"] = "TIMESTAMPTZ"
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in kinds.items())
    read = "read_csv" if format_name == "csv" else "read_json"
    header = (
        ", header=true, auto_detect=false, delim=',', quote='\"'"
        if format_name == "csv"
        else ", format='newline_delimited'"
    )
    source = f"{read}('{path}', columns={{{columns}}}{header})"
    target = folder / "peer.parquet"
    with duckdb.connect(config={"threads": 2}) as connection:
        joined = ", ".join(kinds)
        found = connection.execute(
            f"COPY (SELECT *, sha256(concat_ws('|', {joined})) AS content_hash FROM {source}) "  # noqa: S608 no input
            f"TO '{target}' (FORMAT parquet, COMPRESSION snappy)"
        ).fetchone()
    proven(rows, found[0] if found else 0)
    return rows


def cost(step: Callable[[], Any], rows: int) -> float:
    """Microseconds of CPU a row, of all threads."""
    began = process_time_ns()
    step()
    return (process_time_ns() - began) / rows / 1_000


def profiled(step: Callable[[], Any]) -> None:
    """Where the time of the step goes."""
    with cProfile.Profile() as profile:
        step()
    pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(_TOP)


if __name__ == "__main__":
    main()
