"""Rows of an uploaded file on their way: chunk → parsed → judged. What parsers give and rules take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from headwater.errors import QualityError

FIELD_LIMIT_BYTES = 128 << 10
RAW_LIMIT_BYTES = 8 << 10  # so much of a wrong row is kept
FILE_CODES = {
    "empty_file": "the file has no content",
    "no_header": "the file has no header: its first record is empty",
    "unreadable_header": "the header is no record: broken quotes, NUL, broken text, or more than 1 MiB",
    "missing_column": "the header does not name a column that is required",
    "unknown_column": "the header names a column that the dataset does not have",
    "repeated_column": "the header names a column twice",
    "unnamed_column": "a column of the header has no name",
    "too_many_columns": "the file has more columns than are taken: 1,000",
    "unsupported_encoding": "the text is UTF-32, or begins with the mark of another encoding than stated",
    "not_an_array": "the document is not an array",
    "malformed_parquet": "the file is not Parquet, or broken",
    "unfit_type": "a column has a type that the dataset's column does not take",
    "too_large_group": "a row group has more rows than are taken: ten million",
}
# Of rows, beside those of transformations/validate.py.
ROW_CODES = {
    "too_few_fields": "the row has fewer fields than there are columns",
    "too_many_fields": "the row has more fields than there are columns",
    "broken_quotes": "a quote stands inside of a field, or is never closed; the line is left out",
    "stray_carriage_return": "a carriage return stands in the row without a line feed",
    "row_too_long": "the row is longer than is taken: 1 MiB",
    "field_too_long": "a field is longer than is taken: 128 KiB",
    "cut_off": "the array ends inside of this element, or the element never ends; nothing after it is read",
    "unknown_field": "the row has a field that the dataset does not have",
    "unnamed_field": "a field of the row has no name, or one that is there twice",
    "number_out_of_range": "the number has more digits than the column's type holds",
    "ambiguous_time": "the local time is there twice, or not at all, when the clocks change",
}


class RefusedFileError(QualityError):
    """A file of which no row can be read rightly. `line` is where that shows, 0 for the file as a whole;
    `column` is a name of the contract or a place ("column 3"), never a text of the file."""

    def __init__(self, code: str, line: int = 0, column: str | None = None) -> None:
        where = f", {column}" if column else ""
        super().__init__(f"line {line}{where}: {code}: {FILE_CODES[code]}")
        self.code, self.line, self.column = code, line, column

    def __reduce__(self) -> tuple[type, tuple[str, int, str | None]]:
        return type(self), (self.code, self.line, self.column)


@dataclass(frozen=True)
class Chunk:
    """A part of a file that begins and ends between two records: small, and sent to whoever reads it.

    `offset` and `length` are bytes, of Parquet `offset` is the row group. `first` is the number of the first
    row: its line in CSV and NDJSON, its place from 1 on in an array and in Parquet. `names` are the columns
    of the file in its order, where they stand at its head. `fault`: all of it is this one fault.
    """

    path: str
    format: str
    number: int
    offset: int
    length: int
    first: int
    names: tuple[str, ...] = ()
    fault: str | None = None


class RowFault(NamedTuple):
    """A row that has no values: where, which column if one is to blame, what, and its beginning."""

    line: int
    column: str | None
    code: str
    raw: bytes


class CellFault(NamedTuple):
    """A value that a row does not have, though something stands there. `row` is its place among `lines`."""

    row: int
    column: str
    code: str


@dataclass(frozen=True)
class Parsed:
    """Rows by column: texts as they stand in the file, or Arrow's own types where the file has types.

    `lines` says the number of each row; `raw` gives the beginning of rows by their place in it. A column that
    the file does not have is not in `columns`.
    """

    lines: pa.Array
    columns: dict[str, pa.Array]
    raw: Callable[[Sequence[int]], list[bytes]]
    cell_faults: list[CellFault] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)


def cut(raw: bytes) -> bytes:
    """The part of a wrong row that is kept."""
    return bytes(raw[:RAW_LIMIT_BYTES])
