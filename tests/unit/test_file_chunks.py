"""Files in chunks: the same rows whatever the size, in every format, by the quick way and the exact one."""

import functools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import event as note
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import parquet

from headwater.errors import SetupError
from jobs.file_rows import chunk_rows, file_chunks
from schemas.dataset import Column, Dataset, dataset, generic
from schemas.rows import Chunk, RefusedFileError
from sources.encoding import utf8_file
from sources.parsers import csv, ndjson
from sources.parsers import json as array
from sources.parsers.csv_record import fields_of
from tests.unit.test_records import naive
from transformations.rows import message

THREE = Dataset("three", "1", tuple(Column(name, "string") for name in "abc"))
ANY = generic("any")
FIELD = st.text(st.sampled_from('ab ,"\n\ré\U0001f469\0'), max_size=4)
# Fields as a writer quotes them, and pieces that no writer makes.
QUOTED = FIELD.map(lambda text: ('"' + text.replace('"', '""') + '"').encode())
PLAIN = st.text(st.sampled_from("abé \U0001f469"), max_size=4).map(str.encode)
MESS = st.sampled_from([b'"', b"\r", b"\0", b"\xe9", b"\xef\xbb\xbf", b'x"', b"", b"\n"])
ROW = st.lists(PLAIN | PLAIN | QUOTED | MESS, min_size=2, max_size=4) | st.lists(
    PLAIN | QUOTED, min_size=3, max_size=3
)
ROWS = st.lists(ROW.map(b",".join), max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=2), v, max_size=2),
    max_leaves=3,
)
OBJECTS = st.lists(st.dictionaries(st.sampled_from(["a", "b", '"}', "é"]), VALUE, max_size=3), max_size=8)
SPLICE = st.sampled_from([b'"', b"}", b"{", b"]", b"[", b",", b"\\", b"x", b"\xff", b""])

Split = Callable[..., Any]


def rows_of(
    data: bytes, format_name: str, found: Dataset, split: Split | None = None
) -> list[tuple[Any, ...]]:
    """Every row's outcome in the order of lines."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(data)
        make = split or functools.partial(file_chunks, format_name=format_name)
        chunks = make(path, dataset=found, scratch=Path(folder))
        parts = [part for chunk in chunks for part in chunk_rows(pickle.loads(pickle.dumps(chunk)), found)]  # noqa: S301
    rows: list[tuple[Any, ...]] = []
    for part in parts:
        rows += zip(*part.valid.to_pydict().values(), strict=True)
        rows += zip(*part.errors.to_pydict().values(), strict=True)
    return sorted(rows, key=lambda row: row[0])


def exactly(body: bytes) -> list[tuple[Any, ...]]:
    """Lines and data, or codes, of CSV with three columns: found and read one record after the other."""
    rows: list[tuple[Any, ...]] = []
    for line, raw, broken in naive(body):
        fields = ("broken_quotes", None) if broken else fields_of(raw, THREE.dialect, 3)
        if isinstance(fields, tuple):
            rows.append((line + 1, fields[0]))
        else:
            said = {name: text.strip() for name, text in zip("abc", fields, strict=True) if text.strip()}
            rows.append((line + 1, json.dumps(said, ensure_ascii=False, separators=(",", ":"))))
    return rows


@given(rows=ROWS, end=st.sampled_from([b"\n", b"\r\n"]))
def test_csv_by_column_is_csv_record_by_record(rows: list[bytes], end: bytes) -> None:
    body = end.join(rows)
    expected = exactly(b"a,b,c\n" + body)[1:]
    note(f"valid: {any(row[1].startswith('{') for row in expected)}")
    # A valid row is (line, hash, data), a wrong one (line, column, code, message, raw).
    assert [(row[0], row[2]) for row in rows_of(b"a,b,c\n" + body, "csv", THREE)] == expected


@given(rows=ROWS, size=st.integers(1, 60))
def test_csv_has_the_same_rows_in_chunks_of_any_size(rows: list[bytes], size: int) -> None:
    data = b"a,b,c\n" + b"\n".join(rows)
    assert rows_of(data, "csv", THREE, functools.partial(csv.split, size=size)) == rows_of(data, "csv", THREE)


@example(objects=[{}, {}], style=None, at=4, splice=b"}", size=1)  # an array that ends behind a comma
@given(
    objects=OBJECTS,
    style=st.sampled_from([None, 1]),
    at=st.integers(0),
    splice=SPLICE,
    size=st.integers(1, 60),
)
def test_an_array_has_the_same_rows_in_chunks_of_any_size(
    objects: list[Any], style: int | None, at: int, splice: bytes, size: int
) -> None:
    text = json.dumps(objects, indent=style, ensure_ascii=False).encode()
    place = 1 + at % len(text)
    data = text[:place] + splice + text[place:]
    assert rows_of(data, "json", ANY, functools.partial(array.split, size=size)) == rows_of(data, "json", ANY)


@given(objects=OBJECTS, size=st.integers(1, 60))
def test_ndjson_and_an_array_have_the_same_rows_and_hashes(objects: list[Any], size: int) -> None:
    lines = "\n".join(json.dumps(one) for one in objects).encode()
    found = rows_of(lines, "ndjson", ANY, functools.partial(ndjson.split, size=size)) if objects else []
    as_array = rows_of(json.dumps(objects).encode(), "json", ANY)
    # The raw text differs in nothing here either: both are written alike.
    assert found == as_array


def test_a_row_has_the_same_hash_in_every_format(tmp_path: Path) -> None:
    found = dataset("contacts")
    row = {"contact_id": 7, "email": "Ada@Example.com", "balance": 1.5, "newsletter": True}
    timed = {**row, "updated_at": "2026-03-01T12:00:00Z", "birth_date": "1815-12-10"}
    files = {
        "csv": b"contact_id,email,balance,newsletter,updated_at,birth_date\n"
        b"7,Ada@Example.com,1.50,true,2026-03-01T12:00:00Z,1815-12-10\n",
        "json": json.dumps([timed]).encode(),
        "ndjson": json.dumps(timed).encode(),
    }
    typed = pa.table({name: [value] for name, value in timed.items()})
    moment = typed.column("updated_at").cast(pa.timestamp("ms", "UTC"))
    typed = typed.set_column(4, "updated_at", moment).set_column(
        5, "birth_date", typed.column("birth_date").cast(pa.date32())
    )
    parquet.write_table(typed, tmp_path / "typed")
    files["parquet"] = (tmp_path / "typed").read_bytes()
    hashes = {name: [row[1] for row in rows_of(data, name, found)] for name, data in files.items()}
    assert len(set(map(tuple, hashes.values()))) == 1 and len(hashes["csv"][0]) == 64


@given(text=st.text(max_size=20), encoding=st.sampled_from(["utf-16-le", "utf-16-be", "cp1252", "shift_jis"]))
def test_any_bytes_of_a_stated_encoding_become_utf8_or_broken_utf8(text: str, encoding: str) -> None:
    data = text.encode(encoding, "replace") + b"\x81"
    with TemporaryDirectory() as folder:
        (Path(folder) / "file").write_bytes(data)
        copy = Path(utf8_file(Path(folder) / "file", encoding, Path(folder)).path).read_bytes()
    assert copy.decode("utf-8", "ignore").encode() != copy, (
        "the last byte means nothing, and must not be lost"
    )


def test_the_wrong_row_is_kept_up_to_a_limit_and_once_for_all_its_reasons() -> None:
    [first, second] = rows_of(
        b'{"contact_id":"x","note":"%b"}' % (b"y" * 10_000), "ndjson", dataset("contacts")
    )[:2]
    assert len(first[4]) == 8_192 and second[4] is None


def test_no_message_holds_a_value() -> None:
    canary = "ada.lovelace"
    found = rows_of(
        f"contact_id,email,updated_at\n{canary},{canary},{canary}\n".encode(), "csv", dataset("contacts")
    )
    assert found and all(canary not in row[3] and row[3] == message(row[2]) for row in found)


def test_an_unknown_format_is_a_fault_of_the_set_up(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="known: csv, json, ndjson, parquet"):
        file_chunks(tmp_path, "xlsx", ANY, tmp_path)


def test_a_refusal_travels_from_a_task_with_all_that_it_says() -> None:
    fault = pickle.loads(pickle.dumps(RefusedFileError("unfit_type", 3, "column 2")))  # noqa: S301
    assert (fault.code, fault.line, fault.column, fault.exit_code) == ("unfit_type", 3, "column 2", 3)


def test_a_chunk_is_small_when_it_is_sent() -> None:
    assert len(pickle.dumps(Chunk("/a/path", "csv", 1, 2, 3, 4, ("a", "b")))) < 300
