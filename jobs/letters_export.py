"""ops.dead_letters → a file: NDJSON or Parquet, whole or masked.

Written under a temporary name and renamed: under its own name a file is complete. Only its owner may read it.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from headwater.errors import SetupError
from headwater.settings import Settings
from schemas.letters import LETTERS
from sources.letters.shown import header, listed, payload
from sources.letters.table import Snapshot
from sources.letters.wanted import Wanted

Write = Callable[[BinaryIO, Iterator[pa.Table], bool], int]
# With the payload masked, as JSON text, where it is; else null.
_PARQUET = LETTERS.append(pa.field("payload_masked", pa.string()))


def export(settings: Settings, wanted: Wanted, file: Path, personal: bool) -> int:
    """Write the letters that are wanted: how many. Raises SetupError for a name of no known kind, or where
    nothing can be written."""
    write = WRITERS.get(file.suffix)
    if write is None:
        raise SetupError(f"{file.name}: a file is called *{' or *'.join(WRITERS)}")
    rows = Snapshot(settings).scan(wanted, LETTERS.names)
    with _complete(file) as out:
        return write(out, (part.select(LETTERS.names) for part in rows if part.num_rows), personal)


@contextmanager
def _complete(file: Path) -> Iterator[BinaryIO]:
    """A file that is there as a whole, or not at all."""
    new = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(new, file)
    except OSError as fault:
        raise SetupError(f"{file} cannot be written: {fault.strerror}") from fault
    finally:
        new.unlink(missing_ok=True)


def _ndjson(out: BinaryIO, parts: Iterator[pa.Table], personal: bool) -> int:
    count = 0
    for part in parts:
        for letter in part.to_pylist():
            whole = listed(letter) | {
                "headers": [header(one, personal) for one in letter["headers"] or []],
                "payload": payload(letter, personal),
            }
            out.write(json.dumps(_flat(whole)).encode() + b"\n")
            count += 1
    return count


def _flat(letter: dict[str, Any]) -> dict[str, Any]:
    """`payload` is base64 or null, `payload_masked` the masked one or null."""
    found = letter["payload"]
    whole = found["base64"] if found and not found["masked"] else None
    return letter | {"payload": whole, "payload_masked": found if found and found["masked"] else None}


def _parquet(out: BinaryIO, parts: Iterator[pa.Table], personal: bool) -> int:
    count = 0
    with pq.ParquetWriter(out, _PARQUET) as writer:
        for part in parts:
            letters = part.to_pylist()
            rows = letters if personal else [_without(letter) for letter in letters]
            writer.write_table(pa.Table.from_pylist(rows, schema=_PARQUET))
            count += len(rows)
    return count


def _without(letter: dict[str, Any]) -> dict[str, Any]:
    """The letter with its payload masked, and the headers' names alone."""
    found = payload(letter, personal=False)
    names = [{"key": one["key"], "value": None} for one in letter["headers"] or []]
    return letter | {
        "payload": None,
        "headers": names,
        "payload_masked": json.dumps(found) if found else None,
    }


WRITERS: dict[str, Write] = {".ndjson": _ndjson, ".parquet": _parquet}
