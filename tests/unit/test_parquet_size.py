"""Files of Parquet that say little and mean much: they are read a piece at a time, or refused."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from schemas.dataset import generic
from schemas.rows import CellFault, RefusedFileError
from sources.parsers.parquet import read, split

ANY = generic("any")
TEXT = "x" * 100_000
PIECE = 65 << 20


def sizes(path: Path) -> list[tuple[int, int]]:
    """(rows, bytes) of each piece that is read."""
    found = []
    for chunk in split(path, ANY, path.parent):
        for piece in read(chunk, ANY):
            (column,) = piece.columns.values()
            assert column[0].as_py() == column[-1].as_py() == TEXT
            found.append((len(column), column.nbytes))
    return found


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_long_text_in_every_row_is_read_in_pieces(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "file"
    parquet.write_table(pa.table({"a": pa.array([TEXT] * 2_000).cast(kind)}), path)
    assert path.stat().st_size < 2 * len(TEXT)
    found = sizes(path)
    assert sum(rows for rows, _ in found) == 2_000
    assert max(size for _, size in found) < PIECE


def test_texts_told_by_what_they_have_in_common_are_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    table = pa.table({"a": [TEXT] * 2_000})
    parquet.write_table(table, path, use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"})
    found = sizes(path)
    assert sum(rows for rows, _ in found) == 2_000
    assert max(size for _, size in found) < PIECE


def test_a_row_group_of_gigabytes_is_refused_before_they_are_written_out(tmp_path: Path) -> None:
    path = tmp_path / "file"
    numbers = pa.array([0] * 50_000, pa.int32())
    texts = pa.DictionaryArray.from_arrays(numbers, pa.array([TEXT]))
    parquet.write_table(pa.table({"a": texts}), path)
    with pytest.raises(RefusedFileError, match="too_large_group"):
        sizes(path)


def test_a_row_of_more_than_a_mebibyte_is_a_fault_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    columns = {f"c{place}": ["short", TEXT, "short"] for place in range(11)} | {"nul": ["a", "b", "c\0"]}
    parquet.write_table(pa.table(columns), path)
    (chunk,) = split(path, ANY, path.parent)
    (found,) = read(chunk, ANY)
    assert found.lines.to_pylist() == [1, 3]
    assert [(fault.line, fault.column, fault.code) for fault in found.faults] == [(2, None, "row_too_long")]
    assert found.cell_faults == [CellFault(1, "nul", "nul_character")]
    assert found.columns["c0"].to_pylist() == ["short", "short"]
    assert found.raw([1])[0].startswith(b'{"c0":"short"')
