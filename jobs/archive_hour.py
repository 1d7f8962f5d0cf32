"""One hour of a topic: bronze → Parquet files → a manifest, which alone makes the hour done.

Safe to run again: what an attempt has left without a manifest is removed by the next.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headwater.archive_settings import Archive
from headwater.clock import iso, utc_now
from headwater.errors import LockedError, QualityError
from headwater.failpoints import fail_at
from headwater.log import logger
from headwater.offsets import Range
from headwater.version import CODE_VERSION
from jobs.archive_plan import Due
from schemas.avro import SchemaOf
from schemas.contract import Contract
from sinks.archive.base import MANIFEST, Parts, Store, hour_folder, hour_text
from sinks.archive.manifest import File, Manifest, read_manifest, to_bytes
from sinks.parquet import ParquetParts
from sources.bronze import Topic
from transformations.archived import RECORD, WITHHELD, archive_schema, archived

_log = logger(__name__)
# Of records that are decoded at once: a row group of what that makes.
_DECODED_BYTES = 16 << 20
_BRONZE = RECORD.remove(RECORD.get_field_index(WITHHELD))


@dataclass(frozen=True)
class Stream:
    """A topic that is archived."""

    query: str
    topic: str
    contract: Contract
    schema_of: SchemaOf | None = None

    @property
    def fields(self) -> Contract | None:
        """The contract that its records are read by; None for bodies that were refused."""
        return self.contract if self.topic == self.contract.topic else None


@dataclass(frozen=True)
class _Folder:
    store: Store
    path: str

    def begin(self, name: str) -> Parts:
        return self.store.begin(f"{self.path}/{name}")


def write_hour(
    stream: Stream,
    topic: Topic,
    due: Due,
    done: Manifest | None,
    store: Store,
    settings: Archive,
    stopping: threading.Event,
) -> Manifest | None:
    """Archive the hour; `done` is the one before it. None when it was broken off because all is stopping.

    QualityError where other records were written than bronze was seen to have.
    """
    began, folder = time.monotonic(), hour_folder(stream.topic, due.hour)
    _check_alone(stream, due, read_manifest(store, folder) is None)
    store.clear(folder)
    parts = ParquetParts(_Folder(store, folder), archive_schema(stream.fields), settings.file_bytes)
    try:
        ranges: dict[int, Range] = {}
        for rows in _decoded(stream, topic, due, settings):
            if stopping.is_set():
                parts.discard()
                return None
            parts.write(rows)
            _count(ranges, rows)
            fail_at(stream.query, "task")
        files = parts.finish()
        _check_counts(stream, due, ranges)
        fail_at(stream.query, "before_write")
    except BaseException:
        parts.discard()
        raise
    # From here on nothing is taken back: a manifest may be there although its answer was lost.
    parts.complete()
    fail_at(stream.query, "after_write")
    _check_alone(stream, due, store.files(folder) == {file.name: file.bytes for file in files})
    manifest = _manifest(stream, topic, due, done, files, ranges)
    _check_alone(stream, due, store.put_new(f"{folder}/{MANIFEST}", to_bytes(manifest)))
    fail_at(stream.query, "before_commit")
    _told(stream, manifest, time.monotonic() - began)
    return manifest


def _decoded(stream: Stream, topic: Topic, due: Due, settings: Archive) -> Iterator[pa.Table]:
    decode = archived(stream.fields, stream.schema_of)
    for rows in topic.records(due.parts, due.spans, _BRONZE, settings.memory_bytes):
        count = max(1, _DECODED_BYTES * rows.num_rows // max(1, rows.nbytes))
        for first in range(0, rows.num_rows, count):
            yield decode(rows.slice(first, count))


def _count(ranges: dict[int, Range], rows: pa.Table) -> None:
    """Add rows, which are sorted."""
    offset = rows["offset"].to_numpy()
    partitions, firsts, counts = np.unique(
        rows["partition"].to_numpy(), return_index=True, return_counts=True
    )
    for partition, at, count in zip(partitions.tolist(), firsts.tolist(), counts.tolist(), strict=True):
        first, last = int(offset[at]), int(offset[at + count - 1])
        before = ranges.get(partition)
        ranges[partition] = (
            Range(before.first, last, before.count + count) if before else Range(first, last, count)
        )


def _check_counts(stream: Stream, due: Due, ranges: dict[int, Range]) -> None:
    for partition, count in due.counts.items():
        found = ranges.get(partition)
        if found is None or count not in (None, found.count) or found.last != due.spans[partition][1]:
            raise QualityError(
                f"archive: {stream.topic} {hour_text(due.hour)}: bronze has {count} records of partition "
                f"{partition}, {found.count if found else 0} were written"
            )


def _check_alone(stream: Stream, due: Due, as_expected: bool) -> None:
    if not as_expected:
        raise LockedError(
            f"archive: {stream.topic} {hour_text(due.hour)} is being written by another instance"
        )


def _manifest(
    stream: Stream,
    topic: Topic,
    due: Due,
    done: Manifest | None,
    files: tuple[File, ...],
    ranges: dict[int, Range],
) -> Manifest:
    last = {partition: found.last for partition, found in ranges.items()}
    return Manifest(
        domain=stream.contract.domain,
        topic=stream.topic,
        hour=due.hour,
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        files=files,
        partitions=ranges,
        through=dict(sorted({**(done.through if done else {}), **last}.items())),
        topic_id=topic.topic_id,
        contract_version=stream.contract.version,
        code_version=CODE_VERSION,
        written_at=iso(utc_now()),
    )


def _told(stream: Stream, manifest: Manifest, seconds: float) -> None:
    _log.info(
        "archived",
        query=stream.query,
        topic=manifest.topic,
        hour=hour_text(manifest.hour),
        rows=manifest.rows,
        files=len(manifest.files),
        bytes=manifest.bytes,
        seconds=round(seconds, 3),
    )
