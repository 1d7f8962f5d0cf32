"""The files of an archived hour against its manifest: names, sizes, hashes, rows, and every offset."""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow.parquet as pq
from pyarrow import ArrowException

from headwater.errors import DataLossError
from headwater.offsets import Range
from sinks.archive.base import MANIFEST, Store, hour_text
from sinks.archive.manifest import File, Manifest

_READ_BYTES = 1 << 20
Order = tuple[int, int]


def file_faults(store: Store, manifest: Manifest) -> Iterator[str]:
    """What is wrong with an hour's files, a sentence each."""
    where = f"{manifest.topic} {hour_text(manifest.hour)}"
    there = store.files(manifest.folder)
    strays = sorted(there.keys() - {MANIFEST, *(file.name for file in manifest.files)})
    yield from (f"{where}: {name} is not in the manifest" for name in strays)
    seen: dict[int, Range] = {}
    whole = True
    for file in manifest.files:
        fault = _damage(store, manifest, file, there) or _places(store, manifest, file, seen)
        if fault:
            whole = False
            yield f"{where}: {file.name} {fault}"
    if whole and seen != manifest.partitions:
        yield f"{where}: the files hold other offsets than the manifest says"
    if manifest.rows != sum(file.rows for file in manifest.files):
        yield f"{where}: the manifest's rows do not add up"


def _damage(store: Store, manifest: Manifest, file: File, there: dict[str, int]) -> str | None:
    if file.name not in there:
        return "is missing"
    if there[file.name] != file.bytes:
        return f"has {there[file.name]} bytes, not {file.bytes}"
    try:
        with store.open(f"{manifest.folder}/{file.name}") as stream:
            return None if _sha256(stream) == file.sha256 else "has another SHA-256"
    except DataLossError:  # gone in this moment
        return "is missing"


def _sha256(stream: BinaryIO) -> str:
    digest = hashlib.sha256()
    while part := stream.read(_READ_BYTES):
        digest.update(part)
    return digest.hexdigest()


def _places(store: Store, manifest: Manifest, file: File, seen: dict[int, Range]) -> str | None:
    """Add the offsets that a file holds; what is wrong with them."""
    rows = 0
    with store.open(f"{manifest.folder}/{file.name}") as stream:
        try:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["partition", "offset"]):
                rows += batch.num_rows
                fault = _add(seen, batch.column("partition").to_numpy(), batch.column("offset").to_numpy())
                if fault:
                    return fault
        except ArrowException as fault:
            return f"cannot be read ({type(fault).__name__})"
    return None if rows == file.rows else f"has {rows} rows, not {file.rows}"


def _add(seen: dict[int, Range], partitions: np.ndarray, offsets: np.ndarray) -> str | None:
    for partition in np.unique(partitions).tolist():
        mine = offsets[partitions == partition]
        before = seen.get(partition)
        if (np.diff(mine) <= 0).any() or (before and mine[0] <= before.last):
            return f"is not in the order of its offsets, partition {partition}"
        first, count = (before.first, before.count) if before else (int(mine[0]), 0)
        seen[partition] = Range(first, int(mine[-1]), count + len(mine))
    return None
