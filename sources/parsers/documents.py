"""JSON objects → rows by column. Usual ones are read by a C parser; each in doubt by schemas/envelope.py.

A value of JSON becomes the text that CSV would have for it: numbers and booleans are written as the dataset
writes them, so that a row is the same row in every format. A value whose type is not the column's has none.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import compress
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from headwater.decimals import plain
from headwater.text import nfc
from schemas.contract import MAX_DEPTH, ROW_LIMIT_BYTES
from schemas.dataset import ANY, COLUMNS_LIMIT, Column, Dataset
from schemas.envelope import LARGEST_DOUBLE, LONGEST_NUMBER, float_as_decimal, read_document, to_json
from schemas.rows import FIELD_LIMIT_BYTES, CellFault, Parsed, RowFault, cut
from sources.parsers.known_columns import Columns, KnownColumns, known_columns

Row = dict[str, Any]
_MISFIT: Any = object()
_DIGITS = b"0123456789"
_NAMES_REMEMBERED = 10_000
_BLOCK = 256
_SPARSE, _FEW = 64, 1  # so many cells for each value are too many, unless it is one row
_FITS: dict[type, tuple[str, ...]] = {
    bool: ("boolean", ANY),
    int: ("integer", "number", ANY),
    Decimal: ("number", ANY),
    dict: (ANY,),
    list: (ANY,),
}


class _Part(NamedTuple):
    """Which of the documents these rows are, and the columns that they have together, made one by one."""

    places: list[int]
    columns: Iterable[tuple[str, Sequence[Any]]]


# and the faults of the documents that are no rows
_Read = tuple[Iterable[_Part], list[RowFault]]


class Documents:
    """What reads the objects of one dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self.columns = {column.name: column for column in dataset.columns}
        self.refuses = not dataset.generic and dataset.extra_columns == "refuse"
        self.generic, self.dialect = dataset.generic, dataset.dialect
        self.decode = msgspec.json.Decoder(dict[str, Any], float_hook=float_as_decimal).decode
        self.clean: set[str] = set()
        self.read_known = None if dataset.generic else known_columns(tuple(self.columns), self.refuses)

    def parsed(self, raws: Sequence[bytes], numbers: Sequence[int]) -> Iterator[Parsed]:
        """The rows of documents with these numbers, in parts that have no more columns than are taken."""
        if self.read_known:
            yield self._known(self.read_known, raws, numbers)
            return
        parts, faults = self._found(raws, numbers)
        for part in parts:
            cells: list[CellFault] = []
            made = {name: self._column(name, values, cells) for name, values in part.columns}
            lines = pa.array([numbers[place] for place in part.places], pa.int64())
            yield Parsed(lines, made, _Raw(raws, part.places), cells, faults)
            faults = []

    def _known(self, read: KnownColumns, raws: Sequence[bytes], numbers: Sequence[int]) -> Parsed:
        """All rows. A few are read at a time, so that their values are still in the processor's cache when
        they are put into columns."""
        made: dict[str, list[pa.Array]] = {name: [] for name in self.columns}
        cells, faults, places = list[CellFault](), list[RowFault](), list[int]()
        for start in range(0, len(raws), _BLOCK):
            block = slice(start, start + _BLOCK)
            columns, kept, wrong = self._exactly(*read(raws[block]), raws[block], numbers[block])
            for name, values in zip(self.columns, columns, strict=True):
                misfits: list[CellFault] = []
                made[name].append(self._column(name, values, misfits))
                cells += [cell._replace(row=cell.row + len(places)) for cell in misfits]
            faults += wrong
            places += [start + place for place in kept]
        arrays = {name: pa.chunked_array(parts, pa.string()).combine_chunks() for name, parts in made.items()}
        lines = pa.array([numbers[place] for place in places], pa.int64())
        return Parsed(lines, arrays, _Raw(raws, places), cells, faults)

    def _exactly(
        self, columns: Columns, doubtful: list[int], raws: Sequence[bytes], numbers: Sequence[int]
    ) -> tuple[Columns, Sequence[int], list[RowFault]]:
        """The columns, with what the quick parser doubts read exactly; which documents are rows; faults."""
        faults = {}
        for place in doubtful:
            row = self._row(raws[place], numbers[place])
            if isinstance(row, RowFault):
                faults[place] = row
                continue
            for name, column in zip(self.columns, columns, strict=True):
                column[place] = row.get(name)
        if not faults:
            return columns, range(len(raws)), []
        kept = [place for place in range(len(raws)) if place not in faults]
        return [[column[place] for place in kept] for column in columns], kept, list(faults.values())

    def _found(self, raws: Sequence[bytes], numbers: Sequence[int]) -> _Read:
        """Parts whose columns are the names that their rows have."""
        rows: list[Any] = list(map(self._row, raws, numbers))
        kept = [type(row) is dict for row in rows]
        faults = [row for row in rows if type(row) is RowFault]
        places = list(compress(range(len(rows)), kept))
        return self._parts(list(compress(rows, kept)), places), faults

    def _row(self, raw: bytes, number: int) -> Row | RowFault:
        row = self._usual(raw)
        if row is None:
            found = read_document(raw)
            if found.fault:
                code = "row_too_long" if found.fault == "too_large" else found.fault
                return RowFault(number, None, code, cut(raw))
            row = found.value
        if self.generic:
            row = row if self.clean.issuperset(row) else self._cleaned(row)
        fault = self._fault(row, len(raw))
        return RowFault(number, None, fault, cut(raw)) if fault else row

    def _usual(self, raw: bytes) -> Any:
        """What the quick parser reads of a document that hides nothing; None is doubt."""
        size = len(raw)
        if size > ROW_LIMIT_BYTES or b"\\u0000" in raw or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
            return None
        if size >= LONGEST_NUMBER and size - len(raw.translate(None, _DIGITS)) >= LONGEST_NUMBER:
            return None
        try:
            return self.decode(raw)
        except (msgspec.DecodeError, ArithmeticError, ValueError, RecursionError):
            return None

    def _fault(self, row: Row | None, size: int) -> str | None:
        if row is None:
            return "unnamed_field"
        if self.refuses and not self.columns.keys() >= row.keys():
            return "unknown_field"
        if self.generic and len(row) > COLUMNS_LIMIT:
            return "too_many_fields"
        if size > FIELD_LIMIT_BYTES and any(map(_is_long, row.values())):
            return "field_too_long"
        return None

    def _cleaned(self, row: Row) -> Row | None:
        """The row under its names as a header would have them; None when one is blank or there twice."""
        made = {nfc(name).strip(): value for name, value in row.items()}
        if len(made) < len(row) or "" in made:
            return None
        if len(self.clean) < _NAMES_REMEMBERED:
            self.clean.update(made)
        return made

    def _parts(self, rows: list[Row], places: list[int]) -> Iterator[_Part]:
        names = list(dict.fromkeys(name for row in rows for name in row))
        is_sparse = len(names) * len(rows) > _SPARSE * sum(map(len, rows))
        if len(rows) <= _FEW or (len(names) <= COLUMNS_LIMIT and not is_sparse):
            yield _Part(places, ((name, [row.get(name) for row in rows]) for name in names))
            return
        half = len(rows) // 2
        yield from self._parts(rows[:half], places[:half])
        yield from self._parts(rows[half:], places[half:])

    def _column(self, name: str, values: Sequence[Any], cells: list[CellFault]) -> pa.Array:
        kind = self.columns.get(name, Column(name, ANY)).kind
        try:
            return pa.array(values, pa.string())
        except pa.ArrowTypeError:
            pass  # there is more than texts
        kinds = set(map(type, values))
        if kinds == {int} and kind in _FITS[int]:
            return pa.array(list(map(str, values)), pa.string())
        texts = [self._text(kind, value) for value in values]
        cells += [CellFault(row, name, "type_mismatch") for row, text in enumerate(texts) if text is _MISFIT]
        return pa.array([None if text is _MISFIT else text for text in texts], pa.string())

    def _text(self, kind: str, value: Any) -> Any:
        """A value as text; _MISFIT where the column has another type."""
        if value is None or type(value) is str:
            return value
        if kind not in _FITS[type(value)]:
            return _MISFIT
        if type(value) is bool:
            return self.dialect.booleans[not value] if kind != ANY else str(value).lower()
        if type(value) in (dict, list):
            return to_json(value)
        text = plain(Decimal(value)) if abs(value) <= LARGEST_DOUBLE else None
        if text is None:
            return _MISFIT
        return text if kind == ANY else text.replace(".", self.dialect.decimal_separator)


class _Raw:
    """The beginnings of rows, when they are asked for."""

    def __init__(self, raws: Sequence[bytes], places: list[int]) -> None:
        self.raws, self.places = raws, places

    def __call__(self, rows: Sequence[int]) -> list[bytes]:
        return [cut(self.raws[self.places[row]]) for row in rows]


def _is_long(value: Any) -> bool:
    return len((value if type(value) is str else to_json(value)).encode()) > FIELD_LIMIT_BYTES
