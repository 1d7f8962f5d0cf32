"""Delta tables as their files say, read without Delta and without the code under test."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Row = dict[str, Any]


def committed(folder: Path) -> bool:
    """Whether the Delta table is there."""
    return (folder / "_delta_log" / f"{0:020d}.json").exists()


def live_files(folder: Path) -> list[Row]:
    """The `add` actions that no `remove` undid, from the log's JSON files."""
    live: dict[str, Row] = {}
    logs = sorted((folder / "_delta_log").glob("*.json"))
    assert logs and logs[0].stem == f"{0:020d}", f"{folder} has no Delta log that begins at 0"
    for log in logs:
        for line in log.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                live[action["add"]["path"]] = action["add"]
            if "remove" in action:
                live.pop(action["remove"]["path"], None)
    return list(live.values())


def rows_of(folder: Path, part: Row, columns: list[str] | None) -> list[Row]:
    """The rows of one file, with its partition's values."""
    given = part["partitionValues"]
    wanted = None if columns is None else [name for name in columns if name not in given]
    path = folder / part["path"]
    found = pq.ParquetFile(path, coerce_int96_timestamp_unit="us").read(wanted).to_pylist()
    return [row | given for row in found]
