"""The checksum of a version of a Delta table: `<version>.crc` beside its commit. delta-rs writes none.

Spark takes protocol and columns of a version from it. Where it is missing, each look at a new version is a
Spark job over the log, and so is each commit of Spark's behind one of delta-rs. It only says what the log
says: a version without one, after a crash, is read as before.
Source of the format: Delta's protocol, "Version Checksum File".
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

# Only the newest are asked for, and each look at a table lists all files of its log.
KEPT = 50
_Found = dict[str, Any]


def write_checksum(table: DeltaTable, path: str) -> None:
    """Write that of the newest version of the local table at `path`; nobody else may commit meanwhile.

    A disk that does not take it is no fault: the commit is done.
    """
    version = table.version()
    found = {**(_derived(path, version) or _counted(table)), "numMetadata": 1, "numProtocol": 1}
    file = _file(path, version)
    new = file.with_suffix(".crc.new")
    with suppress(OSError):
        new.write_text(json.dumps(found, separators=(",", ":")) + "\n", encoding="utf-8")
        os.replace(new, file)
        _file(path, version - KEPT).unlink(missing_ok=True)


def _file(path: str, version: int) -> Path:
    return Path(path, "_delta_log", f"{version:020d}.crc")


def _derived(path: str, version: int) -> _Found | None:
    """From that of the version before and the commit; None where these do not suffice."""
    try:
        before = json.loads(_file(path, version - 1).read_text(encoding="utf-8"))
        commit = _file(path, version).with_suffix(".json").read_text(encoding="utf-8")
        found = {name: before[name] for name in ("tableSizeBytes", "numFiles", "metadata", "protocol")}
        for action in map(json.loads, commit.splitlines()):
            found["protocol"] = action.get("protocol", found["protocol"])
            found["metadata"] = action.get("metaData", found["metadata"])
            for name, sign in (("add", 1), ("remove", -1)):
                if name in action:
                    found["numFiles"] += sign
                    found["tableSizeBytes"] += sign * action[name]["size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def _counted(table: DeltaTable) -> _Found:
    """From all that the table has."""
    files = pa.table(table.get_add_actions())
    known, protocol = table.metadata(), table.protocol()
    metadata = {
        "id": str(known.id),
        "name": known.name,
        "description": known.description,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": table.schema().to_json(),
        "partitionColumns": known.partition_columns,
        "configuration": dict(known.configuration),
        "createdTime": known.created_time,
    }
    features = {"readerFeatures": protocol.reader_features, "writerFeatures": protocol.writer_features}
    versions = {
        "minReaderVersion": protocol.min_reader_version,
        "minWriterVersion": protocol.min_writer_version,
    }
    return {
        "tableSizeBytes": pc.sum(files["size_bytes"]).as_py() or 0,
        "numFiles": files.num_rows,
        "metadata": {name: value for name, value in metadata.items() if value is not None},
        "protocol": versions | {name: value for name, value in features.items() if value is not None},
    }
