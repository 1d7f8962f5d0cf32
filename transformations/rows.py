"""Parsed rows of a dataset → valid rows with their hashes, and every reason against the others.

Plain Python and Arrow, no Spark: what a task runs for each part of an uploaded file.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.dataset import Column, Dataset
from schemas.rows import ROW_CODES, Parsed
from transformations.cell_columns import cleaned, rule
from transformations.column_shortcut import Made
from transformations.content_hash import content_json, hashes
from transformations.validate import told

VALID = pa.schema([("line", pa.int64()), ("content_hash", pa.string()), ("data", pa.string())])
ERRORS = pa.schema(
    [
        ("line", pa.int64()),
        ("column", pa.string()),
        ("code", pa.string()),
        ("message", pa.string()),
        ("raw", pa.binary()),
    ]
)
REASONS_LIMIT = 50  # of one row
_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
}
# line, the row among those parsed or None, column, code, raw if the row has no place
_Reason = tuple[int, int | None, str | None, str, bytes | None]


class Counts(NamedTuple):
    """Rows; `read` is the sum of the others."""

    read: int
    valid: int
    invalid: int


class Judged(NamedTuple):
    """`valid`: VALID, with the row's canonical JSON as `data`. `values`: the same rows by column, typed as
    the contract says; of a generic dataset the columns of this part of the file, as texts. `errors`: ERRORS,
    a row for each reason in the order of lines; the first of a line holds its beginning, the others null."""

    valid: pa.Table
    values: pa.Table
    errors: pa.Table
    counts: Counts


Judge = Callable[[Parsed], Judged]


def judge_rows(dataset: Dataset) -> Judge:
    """A function of parsed rows. A row is valid if nothing is wrong with any of its values."""
    rules = [(column, rule(column, dataset.dialect)) for column in dataset.columns]

    def decide(parsed: Parsed) -> Judged:
        rows = len(parsed.lines)
        if dataset.generic:
            texts = {name: cleaned(texts) for name, texts in parsed.columns.items()}
            made = {name: Made(column, column, []) for name, column in texts.items()}
        else:
            made = {column.name: apply(_given(parsed, column)) for column, apply in rules}
        found = [
            (row, name, code)
            for name, code_rows in _faults(dataset, parsed, made).items()
            for row, code in code_rows
        ]
        keep = np.ones(rows, np.bool_)
        keep[[row for row, _, _ in found]] = False
        kept = None if keep.all() else pa.array(keep)
        valid, values = _valid(parsed.lines, made, kept)
        counts = Counts(rows + len(parsed.faults), len(valid), rows - len(valid) + len(parsed.faults))
        return Judged(valid, values, _errors(parsed, found), counts)

    return decide


def value_type(column: Column) -> pa.DataType:
    """The type of a column of `Judged.values`."""
    return pa.decimal128(column.precision, column.scale) if column.kind == "number" else _TYPES[column.kind]


def message(code: str) -> str:
    """What a code says, without any value."""
    return ROW_CODES.get(code) or str(told((code, ""))["message"])


def _given(parsed: Parsed, column: Column) -> pa.Array:
    """What the file has of a column: clean texts, or days and moments; nulls if it does not have it."""
    found = parsed.columns.get(column.name)
    if found is None:
        return pa.nulls(len(parsed.lines), pa.string())
    return cleaned(found) if found.type == pa.string() else found


def _faults(dataset: Dataset, parsed: Parsed, made: dict[str, Made]) -> dict[str, list[tuple[int, str]]]:
    """Of each column: rows and codes. A value that the parser could not read is not missing too."""
    told_before: dict[str, list[tuple[int, str]]] = {}
    for fault in parsed.cell_faults:
        told_before.setdefault(fault.column, []).append((fault.row, fault.code))
    required = {column.name for column in dataset.columns if column.required}
    faults = {}
    for name, column in made.items():
        known = [*told_before.get(name, []), *column.faults]
        if name in required and column.values.null_count:
            empty = pc.indices_nonzero(column.values.is_null()).to_pylist()
            known += [(row, "missing_required") for row in set(empty) - {row for row, _ in known}]
        faults[name] = known
    return faults


def _valid(lines: pa.Array, made: dict[str, Made], kept: pa.Array | None) -> tuple[pa.Table, pa.Table]:
    def chosen(column: pa.Array) -> pa.Array:
        return column if kept is None else column.filter(kept)

    left = chosen(lines)
    data = content_json({name: chosen(column.texts) for name, column in made.items()}, len(left))
    valid = pa.Table.from_arrays([left, hashes(data), data], schema=VALID)
    return valid, pa.table({name: chosen(column.values) for name, column in made.items()})


def _errors(parsed: Parsed, found: Sequence[tuple[int, str, str]]) -> pa.Table:
    lines = parsed.lines.take(pa.array([row for row, _, _ in found], pa.int64())).to_pylist()
    reasons: list[_Reason] = [
        (line, row, column, code, None) for line, (row, column, code) in zip(lines, found, strict=True)
    ]
    reasons += [(fault.line, None, fault.column, fault.code, fault.raw) for fault in parsed.faults]
    reasons = _first_of_each(sorted(reasons, key=lambda reason: reason[0]))
    raws = _raws(parsed, reasons)
    columns = [
        [line for line, *_ in reasons],
        [column for _, _, column, _, _ in reasons],
        [code for *_, code, _ in reasons],
        [message(code) for *_, code, _ in reasons],
        raws,
    ]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, ERRORS, strict=True)], schema=ERRORS)


def _first_of_each(reasons: list[_Reason]) -> list[_Reason]:
    """Of each line no more than REASONS_LIMIT."""
    kept, line, count = [], None, 0
    for reason in reasons:
        line, count = reason[0], count + 1 if reason[0] == line else 1
        if count <= REASONS_LIMIT:
            kept.append(reason)
    return kept


def _raws(parsed: Parsed, reasons: list[_Reason]) -> list[bytes | None]:
    first = {line: place for place, (line, *_) in reversed(list(enumerate(reasons)))}
    raws: list[bytes | None] = [None] * len(reasons)
    rows = {place: row for place in first.values() if (row := reasons[place][1]) is not None}
    for place, raw in zip(rows, parsed.raw(list(rows.values())), strict=True):
        raws[place] = raw
    for place in first.values():
        raws[place] = raws[place] if place in rows else reasons[place][4]
    return raws
