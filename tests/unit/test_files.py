"""Uploaded files, input → outcome: what becomes of each row, and of files that cannot be read as rows."""

import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.file_rows import chunk_rows, file_chunks
from schemas.contract import ROW_LIMIT_BYTES
from schemas.dataset import Column, Dataset, Dialect, generic
from schemas.rows import FIELD_LIMIT_BYTES, RefusedFileError

# A line's number and its data, or its number, column and code.
Outcome = list[tuple[int, str] | tuple[int, str | None, str]]
PEOPLE = Dataset("people", "1", (Column("id", "integer", required=True), Column("name", "string")))
ANY = generic("any")
IGNORING = replace(PEOPLE, extra_columns="ignore")
GIVEN = replace(PEOPLE, dialect=Dialect(header="given"))
LATIN = replace(PEOPLE, dialect=Dialect(encoding="cp1252", delimiter=";"))
QUOTELESS = replace(PEOPLE, dialect=Dialect(quote=None))
ADA, BOB = '{"id":"1","name":"Ada"}', '{"id":"2","name":"Bob"}'
HEAD = b"id,name\n"
LONG_FIELD, LONG_ROW = b"x" * (FIELD_LIMIT_BYTES + 1), b"x" * (ROW_LIMIT_BYTES + 1)

CSV: dict[str, tuple[Dataset, bytes, Outcome]] = {
    "usual": (PEOPLE, HEAD + b"1,Ada\n2,Bob", [(2, ADA), (3, BOB)]),
    "only a header": (PEOPLE, HEAD, []),
    "reordered header": (PEOPLE, b"name,id\nAda,1\n", [(2, ADA)]),
    "header without an optional column": (PEOPLE, b"id\n1\n", [(2, '{"id":"1"}')]),
    "header with spaces": (PEOPLE, b" id , name\n1,Ada\n", [(2, ADA)]),
    "no header": (GIVEN, b"1,Ada\n2,Bob\n", [(1, ADA), (2, BOB)]),
    "a column that is ignored": (IGNORING, b"x,id,y,name\n7,1,8,Ada\n", [(2, ADA)]),
    "byte order mark": (PEOPLE, b"\xef\xbb\xbf" + HEAD + b"1,Ada\n", [(2, ADA)]),
    "UTF-16, little end first": (PEOPLE, b"\xff\xfe" + "id,name\n1,Ada".encode("utf-16-le"), [(2, ADA)]),
    "UTF-16, big end first": (PEOPLE, b"\xfe\xff" + "id,name\n1,Ada".encode("utf-16-be"), [(2, ADA)]),
    "UTF-16, half a character": (
        PEOPLE,
        b"\xff\xfe" + "id,name\n1,Ada\n2,B".encode("utf-16-le") + b"x",
        [(2, ADA), (3, "name", "invalid_utf8")],
    ),
    "a stated encoding": (LATIN, b"id;name\n1;Jos\xe9\n", [(2, '{"id":"1","name":"José"}')]),
    "a byte that the stated encoding has not": (LATIN, b"id;name\n1;\x81\n", [(2, "name", "invalid_utf8")]),
    "mixed line ends": (PEOPLE, b"id,name\r\n1,Ada\n\r\n2,Bob\r\n", [(2, ADA), (4, BOB)]),
    "a carriage return inside": (
        PEOPLE,
        HEAD + b"1,A\rda\n2,Bob",
        [(2, None, "stray_carriage_return"), (3, BOB)],
    ),
    "two carriage returns": (
        PEOPLE,
        HEAD + b"1,Ada\r\r\n2,Bob",
        [(2, None, "stray_carriage_return"), (3, BOB)],
    ),
    "a line end in quotes": (
        PEOPLE,
        HEAD + b'1,"A\r\nda"\n2,Bob',
        [(2, '{"id":"1","name":"A\\r\\nda"}'), (4, BOB)],
    ),
    "quotes in quotes": (PEOPLE, HEAD + b'1,"A""da"\n', [(2, '{"id":"1","name":"A\\"da"}')]),
    "a delimiter in quotes": (PEOPLE, HEAD + b'1,"A,da"\n', [(2, '{"id":"1","name":"A,da"}')]),
    "a quote that is not closed": (PEOPLE, HEAD + b'1,"Ada\n2,Bob\n', [(2, None, "broken_quotes"), (3, BOB)]),
    "a quote inside": (PEOPLE, HEAD + b'1,A"da\n2,Bob\n', [(2, None, "broken_quotes"), (3, BOB)]),
    "text behind a quote": (PEOPLE, HEAD + b'1,"Ada"x\n2,Bob\n', [(2, None, "broken_quotes"), (3, BOB)]),
    "quotes that are letters": (QUOTELESS, HEAD + b'1,A"da\n', [(2, '{"id":"1","name":"A\\"da"}')]),
    "too few fields": (PEOPLE, HEAD + b"1\n2,Bob\n", [(2, None, "too_few_fields"), (3, BOB)]),
    "too many fields": (PEOPLE, HEAD + b"1,Ada,\n2,Bob\n", [(2, None, "too_many_fields"), (3, BOB)]),
    "NUL": (PEOPLE, HEAD + b"1,A\0a\n2,Bob\n", [(2, "name", "nul_character"), (3, BOB)]),
    "not UTF-8": (PEOPLE, HEAD + b"1,A\xe9\n2,Bob\n", [(2, "name", "invalid_utf8"), (3, BOB)]),
    "a mark inside": (PEOPLE, HEAD + b"\xef\xbb\xbf1,Ada\n2,Bob", [(2, "id", "type_mismatch"), (3, BOB)]),
    "a long field": (
        PEOPLE,
        HEAD + b"1," + LONG_FIELD + b"\n2,Bob\n",
        [(2, "name", "field_too_long"), (3, BOB)],
    ),
    "a long row": (PEOPLE, HEAD + b"1," + LONG_ROW + b"\n2,Bob\n", [(2, None, "row_too_long"), (3, BOB)]),
    "a row of many blocks": (
        PEOPLE,
        HEAD + b"1," + LONG_ROW * 9 + b"\n2,Bob\n",
        [(2, None, "row_too_long"), (3, BOB)],
    ),
    "a formula is text": (PEOPLE, HEAD + b"1,=1+1\n", [(2, '{"id":"1","name":"=1+1"}')]),
    "every reason of a row": (
        replace(PEOPLE, columns=(*PEOPLE.columns, Column("n", "number"))),
        b"id,name,n\n,x,y\n",
        [(2, "id", "missing_required"), (2, "n", "type_mismatch")],
    ),
    "generic": (ANY, b"b,a\n 1 ,e\xcc\x81\n,\n", [(2, '{"a":"\xe9","b":"1"}'), (3, "{}")]),
}
JSON: dict[str, tuple[Dataset, bytes, Outcome]] = {
    "usual": (PEOPLE, b'[{"id": 1, "name": "Ada"}, {"name": "Bob", "id": "2"}]', [(1, ADA), (2, BOB)]),
    "nothing": (PEOPLE, b" [ ] ", []),
    "a mark, and UTF-16": (PEOPLE, b"\xff\xfe" + '[{"id":1,"name":"Ada"}]'.encode("utf-16-le"), [(1, ADA)]),
    "cut off": (PEOPLE, b'[{"id":1,"name":"Ada"},{"id":2,"na', [(1, ADA), (2, None, "cut_off")]),
    "cut off behind a comma": (PEOPLE, b'[{"id":1,"name":"Ada"},', [(1, ADA), (2, None, "cut_off")]),
    "a quote that never closes": (PEOPLE, b'[{"id":1,"name":"Ada}, {"id":2}]', [(1, None, "cut_off")]),
    "a broken element": (
        PEOPLE,
        b'[{"id":tru},{"id":2,"name":"Bob"}]',
        [(1, None, "malformed_json"), (2, BOB)],
    ),
    "no element": (PEOPLE, b'[,{"id":2,"name":"Bob"},]', [(1, None, "empty"), (2, BOB), (3, None, "empty")]),
    "brackets in strings": (
        ANY,
        b'[{"a":"}],[{"},{"a":"\\"]"}]',
        [(1, '{"a":"}],[{"}'), (2, '{"a":"\\"]"}')],
    ),
    "text behind": (PEOPLE, b'[{"id":1,"name":"Ada"}] x', [(1, ADA), (2, None, "malformed_json")]),
    "no object": (PEOPLE, b'[1,{"id":2,"name":"Bob"}]', [(1, None, "type_mismatch"), (2, BOB)]),
    "a long element": (
        PEOPLE,
        b'[{"name":"' + LONG_ROW * 9 + b'\\"]"},{"id":2,"name":"Bob"}]',
        [(1, None, "row_too_long"), (2, BOB)],
    ),
}
NDJSON: dict[str, tuple[Dataset, bytes, Outcome]] = {
    "usual": (PEOPLE, b'{"id":1,"name":"Ada"}\r\n\n{"id":2,"name":"Bob"}', [(1, ADA), (3, BOB)]),
    "not JSON": (PEOPLE, b'nope\n{"id":2,"name":"Bob"}\n', [(1, None, "malformed_json"), (2, BOB)]),
    "a repeated key": (PEOPLE, b'{"id":9,"id":1,"name":"Ada"}', [(1, ADA)]),
    "1e400": (PEOPLE, b'{"id":1e400}', [(1, None, "type_mismatch")]),
    "a long number": (PEOPLE, b'{"id":' + b"9" * 400 + b"}", [(1, None, "type_mismatch")]),
    "NaN": (PEOPLE, b'{"id":NaN}', [(1, None, "malformed_json")]),
    "NUL": (PEOPLE, b'{"id":1,"name":"\\u0000"}', [(1, None, "nul_character")]),
    "half a pair": (PEOPLE, b'{"id":1,"name":"\\ud800"}', [(1, None, "invalid_utf8")]),
    "not UTF-8": (PEOPLE, b'{"id":1,"name":"\xe9"}', [(1, None, "invalid_utf8")]),
    "too deep": (ANY, b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", [(1, None, "too_deep")]),
    "nested in a generic row": (ANY, b'{"a":{"b":[1.50]}}', [(1, '{"a":"{\\"b\\":[1.50]}"}')]),
    "nested in a text column": (PEOPLE, b'{"id":1,"name":{}}', [(1, "name", "type_mismatch")]),
    "a number in a text column": (PEOPLE, b'{"id":1,"name":5}', [(1, "name", "type_mismatch")]),
    "a value that could not be read is not missing": (PEOPLE, b'{"id":true}', [(1, "id", "type_mismatch")]),
    "an unknown field": (PEOPLE, b'{"id":1,"x":1}', [(1, None, "unknown_field")]),
    "a field that is ignored": (IGNORING, b'{"id":1,"name":"Ada","x":1}', [(1, ADA)]),
    "a field without a name": (ANY, b'{" ":1}', [(1, None, "unnamed_field")]),
    "the same name twice when cleaned": (ANY, b'{"a":1," a":2}', [(1, None, "unnamed_field")]),
    "generic values": (ANY, b'{"b":true,"n":1.50,"z":null}\n{}', [(1, '{"b":"true","n":"1.5"}'), (2, "{}")]),
    "a long field": (PEOPLE, b'{"id":1,"name":"' + LONG_FIELD + b'"}', [(1, None, "field_too_long")]),
    "too many fields": (
        ANY,
        b"{" + b",".join(b'"%d":1' % n for n in range(1_001)) + b"}",
        [(1, None, "too_many_fields")],
    ),
}
REFUSED: dict[str, tuple[str, Dataset, bytes, tuple[str, int, str | None]]] = {
    "nothing": ("csv", PEOPLE, b"", ("empty_file", 0, None)),
    "only a mark": ("csv", PEOPLE, b"\xef\xbb\xbf", ("empty_file", 0, None)),
    "blank lines": ("csv", PEOPLE, b"\n\n", ("no_header", 0, None)),
    "a missing column": ("csv", PEOPLE, b"name\nAda\n", ("missing_column", 1, "id")),
    "an unknown column": ("csv", PEOPLE, b"id,secret\n1,2\n", ("unknown_column", 1, "column 2")),
    "another case": ("csv", PEOPLE, b"ID,name\n1,2\n", ("unknown_column", 1, "column 1")),
    "a repeated column": ("csv", PEOPLE, b"\nid,id\n", ("repeated_column", 2, "column 2")),
    "a blank column": ("csv", ANY, b"a,,b\n", ("unnamed_column", 1, "column 2")),
    "a broken header": ("csv", PEOPLE, b'"id,name\n1,2\n', ("unreadable_header", 1, None)),
    "a header of wrong bytes": ("csv", PEOPLE, b"id,n\xe9\n", ("unreadable_header", 1, None)),
    "a header of one long name": ("csv", ANY, LONG_ROW * 5, ("unreadable_header", 1, None)),
    "a million columns": ("csv", ANY, b"a," * 1_000_000 + b"\n", ("too_many_columns", 1, None)),
    "UTF-32": ("csv", PEOPLE, "id".encode("utf-32"), ("unsupported_encoding", 0, None)),
    "a mark against the contract": ("csv", LATIN, b"\xef\xbb\xbfid;name", ("unsupported_encoding", 0, None)),
    "an object": ("json", PEOPLE, b'{"id":1}', ("not_an_array", 1, None)),
    "blanks": ("json", PEOPLE, b" \n ", ("empty_file", 0, None)),
    "no Parquet": ("parquet", PEOPLE, b"PAR1nope", ("malformed_parquet", 0, None)),
}


def outcome(folder: Path, format_name: str, dataset: Dataset, data: bytes) -> Outcome:
    path = folder / "file"
    path.write_bytes(data)
    found: Outcome = []
    for chunk in file_chunks(path, format_name, dataset, folder):
        for part in chunk_rows(chunk, dataset):
            valid, errors = part.valid.to_pydict(), part.errors.to_pydict()
            found += zip(valid["line"], valid["data"], strict=True)
            found += zip(errors["line"], errors["column"], errors["code"], strict=True)
            invalid = len(set(errors["line"]))
            assert part.counts == (len(part.valid) + invalid, len(part.valid), invalid)
    return sorted(found, key=lambda row: row[0])


@pytest.mark.parametrize("name", CSV)
def test_each_row_of_csv_becomes_what_it_is(name: str, tmp_path: Path) -> None:
    dataset, data, expected = CSV[name]
    assert outcome(tmp_path, "csv", dataset, data) == expected


@pytest.mark.parametrize("name", JSON)
def test_each_element_of_an_array_becomes_what_it_is(name: str, tmp_path: Path) -> None:
    dataset, data, expected = JSON[name]
    assert outcome(tmp_path, "json", dataset, data) == expected


@pytest.mark.parametrize("name", NDJSON)
def test_each_line_of_ndjson_becomes_what_it_is(name: str, tmp_path: Path) -> None:
    dataset, data, expected = NDJSON[name]
    assert outcome(tmp_path, "ndjson", dataset, data) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_read_as_rows_is_refused_before_the_first(name: str, tmp_path: Path) -> None:
    format_name, dataset, data, expected = REFUSED[name]
    with pytest.raises(RefusedFileError) as caught:
        outcome(tmp_path, format_name, dataset, data)
    assert (caught.value.code, caught.value.line, caught.value.column) == expected


def test_rows_of_parquet_are_read_by_name_and_told_by_their_place(tmp_path: Path) -> None:
    table = pa.table({"name": ["Ada", None, "a\0"], "id": pa.array([1, None, 3], pa.int32())})
    file = io.BytesIO()
    parquet.write_table(table, file, row_group_size=2)
    assert outcome(tmp_path, "parquet", PEOPLE, file.getvalue()) == [
        (1, ADA),
        (2, "id", "missing_required"),
        (3, "name", "nul_character"),
    ]


def test_a_parquet_column_of_another_type_refuses_the_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    parquet.write_table(pa.table({"id": [1.5]}), file)
    with pytest.raises(RefusedFileError, match="unfit_type"):
        outcome(tmp_path, "parquet", PEOPLE, file.getvalue())
