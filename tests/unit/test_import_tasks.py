"""Chunks → staged rows: every row of a file once, with its reasons, and the count that must agree."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from headwater.errors import HeadwaterError
from headwater.settings import Uploads
from jobs.file_rows import file_chunks
from jobs.import_tasks import SCHEMA, Part, kept, staged_rows
from schemas.dataset import Column, Dataset
from schemas.rows import RAW_LIMIT_BYTES, Chunk

THREE = Dataset("three", "1", (Column("a", "integer", required=True), Column("b", "string", max_length=3)))
LINE = st.sampled_from(
    ["1,x\n", "2,y\n", ",z\n", "x,long text\n", "3\n", '4,"\n', "5,a,b\n", "\n", "6,\0\n", "7,é\r\n"]
)


def staged(content: bytes, format_name: str = "csv", max_raw_row: int = 100) -> list[dict[str, Any]]:
    """All staged rows of a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        chunks = list(file_chunks(path, format_name, THREE, Path(folder)))
        parts = [Part(2, chunk) for chunk in chunks]
        batches = [batch for part in parts for batch in staged_rows(part, THREE, max_raw_row)]
    return list(pa.Table.from_batches(batches, SCHEMA).to_pylist())


def test_a_row_is_staged_with_its_hash_or_with_all_its_reasons_and_its_beginning() -> None:
    rows = staged(b"a,b\n1,x\n,long text\n", max_raw_row=5)
    good, bad, count = rows
    assert (good["line"], good["data"], good["reasons"]) == (2, '{"a":"1","b":"x"}', None)
    assert (bad["line"], bad["content_hash"], bad["raw"]) == (3, None, b",long")
    assert [(reason["code"], reason["rule"], reason["field"]) for reason in bad["reasons"]] == [
        ("missing_required", None, "a"),
        ("rule:max_length", "max_length", "b"),
    ]
    assert (count["read"], count["line"]) == (2, None)
    assert {row["member"] for row in rows} == {2}


@given(st.lists(LINE, max_size=12))
def test_every_row_that_was_read_is_staged_as_valid_or_as_invalid(lines: list[str]) -> None:
    rows = staged(("a,b\n" + "".join(lines)).encode())
    valid = [row["line"] for row in rows if row["content_hash"]]
    invalid = [row["line"] for row in rows if row["reasons"]]
    assert sum(row["read"] or 0 for row in rows) == len(valid) + len(invalid)
    assert len({*valid, *invalid}) == len(valid) + len(invalid)


def test_a_row_group_that_is_broken_is_a_row_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    table = pa.table({"a": list(range(5000)), "b": ["x"] * 5000})
    parquet.write_table(table, path, compression="none", use_dictionary=False)
    chunks = list(file_chunks(path, "parquet", THREE, tmp_path))
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(data)
    rows = [row for chunk in chunks for b in staged_rows(Part(0, chunk), THREE, 10) for row in b.to_pylist()]
    assert [(row["refused"], row["content_hash"]) for row in rows] == [("malformed_parquet", None)]


def test_a_chunk_that_cannot_be_read_says_only_what_kind_of_fault_it_was(tmp_path: Path) -> None:
    gone = Part(0, Chunk(str(tmp_path / "ada@example.com"), "csv", 0, 0, 10, 1, ("a", "b")))
    with pytest.raises(HeadwaterError, match=r"^a chunk cannot be read: FileNotFoundError$"):
        list(staged_rows(gone, THREE, 10))


@pytest.mark.parametrize(
    ("raw", "characters", "left"),
    [
        (b"abc", 2, b"ab"),
        (b"abc", 0, b""),
        ("é\U0001f469x".encode(), 2, "é\U0001f469".encode()),
        (b"\xff\xfex", 2, b"\xff\xfe"),
        ("é".encode()[:1] + b"yz", 2, b"\xc3y"),
    ],
)
def test_so_many_characters_of_a_row_are_kept_and_broken_bytes_stay_as_they_are(
    raw: bytes, characters: int, left: bytes
) -> None:
    assert kept(raw, characters) == left


def test_what_parsers_keep_of_a_row_is_enough_for_any_setting() -> None:
    limits = Uploads.model_fields["max_raw_row"].metadata
    assert max(limit.le for limit in limits if hasattr(limit, "le")) * 4 <= RAW_LIMIT_BYTES
