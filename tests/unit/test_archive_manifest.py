"""The manifest as a file, and the files of an hour: sizes, hashes, when they can be seen."""

import hashlib
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.errors import QualityError
from headwater.offsets import Range
from sinks.archive.base import PART_BYTES
from sinks.archive.local import LocalStore
from sinks.archive.manifest import File, Manifest, from_bytes, newest, to_bytes
from sinks.parquet import ParquetParts

TEN = datetime(2026, 3, 1, 10, tzinfo=UTC)
MANIFEST = Manifest(
    "leads", "lead.ingest", TEN, 3, 99, (File("part-00000.parquet", 3, 99, "ab"),),
    {0: Range(0, 1, 2), 10: Range(5, 5, 1)}, {0: 1, 2: 7, 10: 5}, None, "1.0.0", "0.1.0", "now",
)  # fmt: skip
SCHEMA = pa.schema([("partition", pa.int32()), ("offset", pa.int64()), ("value", pa.binary())])


def test_a_manifest_comes_back_as_it_was_written() -> None:
    assert from_bytes(to_bytes(MANIFEST), "here") == MANIFEST


def test_a_manifest_is_json_that_anyone_can_read() -> None:
    found = json.loads(to_bytes(MANIFEST))
    assert (found["topic"], found["hour"], found["rows"]) == ("lead.ingest", "2026-03-01T10:00:00.000Z", 3)
    assert found["files"] == [{"name": "part-00000.parquet", "rows": 3, "bytes": 99, "sha256": "ab"}]
    assert found["partitions"]["10"] == {"first": 5, "last": 5, "count": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format": 2}',
        to_bytes(MANIFEST)[:-40],
        to_bytes(MANIFEST).replace(b"rows", b"r"),
    ],
)
def test_what_is_no_manifest_is_named(content: bytes) -> None:
    with pytest.raises(QualityError, match=r"here/_manifest\.json is damaged"):
        from_bytes(content, "here")


def test_the_newest_hour_is_the_last_one_with_a_manifest(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert newest(store, "lead.ingest") is None
    for hour in (TEN, TEN.replace(hour=9), TEN.replace(month=2)):
        made = replace(MANIFEST, hour=hour)
        assert store.put_new(f"{made.folder}/_manifest.json", to_bytes(made))
    (tmp_path / MANIFEST.folder).with_name("hour=11").mkdir()
    assert newest(store, "lead.ingest") == MANIFEST


def test_a_manifest_is_put_once(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    answers = [store.put_new("a/_manifest.json", content) for content in (b"one", b"one", b"two")]
    assert (answers, store.read("a/_manifest.json")) == ([True, True, False], b"one")
    assert store.files("a") == {"_manifest.json": 3}


class Folder:
    """The folder of an hour in a store."""

    def __init__(self, store: LocalStore) -> None:
        self.begin = lambda name: store.begin(f"hour/{name}")


def rows(first: int, count: int, size: int) -> pa.Table:
    """Rows whose values do not compress."""
    values = [hashlib.shake_256(str(n).encode()).digest(size) for n in range(first, first + count)]
    columns = [pa.array([0] * count, pa.int32()), pa.array(range(first, first + count)), pa.array(values)]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def test_files_are_about_as_large_as_asked_for_and_hold_the_rows_in_order(tmp_path: Path) -> None:
    store, size = LocalStore(tmp_path), 1 << 20
    parts = ParquetParts(Folder(store), SCHEMA, size)
    for first in range(0, 6_000, 2_000):
        parts.write(rows(first, 2_000, 1_000))
    files = parts.finish()
    assert [name for name in store.files("hour") if name.endswith(".parquet")] == []
    parts.complete()
    assert store.files("hour") == {file.name: file.bytes for file in files}
    assert [file.name for file in files] == [f"part-{n:05d}.parquet" for n in range(len(files))]
    assert all(0.75 * size < file.bytes < 1.25 * size for file in files[:-1])
    read = [pq.read_table(io.BytesIO((tmp_path / "hour" / file.name).read_bytes())) for file in files]
    assert pa.concat_tables(read)["offset"].to_pylist() == list(range(6_000))
    assert [table.num_rows for table in read] == [file.rows for file in files]


def test_sizes_and_hashes_are_those_of_the_bytes_in_storage(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    parts = ParquetParts(Folder(store), SCHEMA, 1 << 30)
    parts.write(rows(0, 20_000, PART_BYTES // 8_000))
    (file,) = parts.finish()
    parts.complete()
    content = (tmp_path / "hour" / file.name).read_bytes()
    assert len(content) > 2 * PART_BYTES
    assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_what_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    parts = ParquetParts(Folder(store), SCHEMA, 1 << 20)
    parts.write(rows(0, 3_000, 1_000))
    assert store.files("hour")
    parts.discard()
    assert store.files("hour") == {}
