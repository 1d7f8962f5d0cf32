"""A column of Arrow's types → what CSV would have for it: texts as the dataset writes them."""

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.decimals import plain
from schemas.dataset import ANY, Column, Dialect
from schemas.envelope import to_json
from schemas.rows import FIELD_LIMIT_BYTES, CellFault


def fits(kind: pa.DataType, column: Column) -> bool:
    """Whether a dataset's column takes values of this type."""
    return column.kind in _kinds(kind, column)


def _kinds(kind: pa.DataType, column: Column) -> tuple[str, ...]:
    if pa.types.is_dictionary(kind):
        return _kinds(kind.value_type, column)
    if _is_text(kind) or pa.types.is_null(kind):
        return (column.kind,)
    if pa.types.is_boolean(kind):
        return "boolean", ANY
    if pa.types.is_integer(kind):
        return "integer", "number", ANY
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number", ANY
    if pa.types.is_date(kind):
        return "date", ANY
    if pa.types.is_timestamp(kind):
        stated = kind.tz is not None or column.timezone is not None
        return ("timestamp", ANY) if stated else (ANY,)
    return (ANY,) if pa.types.is_nested(kind) else ()


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string(), pa.string_view())


def written(values: pa.Array, column: Column, dialect: Dialect, cells: list[CellFault]) -> pa.Array:
    """Texts; of a date or timestamp column, and if it is one, days or moments in microseconds.

    What cannot be a value is null, and told in `cells`.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return written(values.cast(kind.value_type), column, dialect, cells)
    if _is_text(kind) or pa.types.is_null(kind):
        return _texts(values, column, cells)
    if pa.types.is_boolean(kind):
        yes, no = dialect.booleans if column.kind != ANY else ("true", "false")
        return pc.if_else(values, yes, no)
    if pa.types.is_integer(kind):
        return values.cast(pa.string())
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _moments(values, column)
    if pa.types.is_nested(kind):
        return pa.array(
            [None if value is None else to_json(value) for value in values.to_pylist()], pa.string()
        )
    point = dialect.decimal_separator if column.kind != ANY else "."
    texts = [_number(text, point) for text in values.cast(pa.string()).to_pylist()]
    return _told(texts, column, cells, values, "type_mismatch")


def _number(text: str | None, point: str) -> str | None:
    made = None if text is None else plain(Decimal(text))
    return made and made.replace(".", point)


def _moments(values: pa.Array, column: Column) -> pa.Array:
    if pa.types.is_date(values.type):
        days = values.cast(pa.date32())
        return days if column.kind == "date" else days.cast(pa.string())
    moments = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    if column.kind == "timestamp":
        return moments
    zone = "Z" if values.type.tz else ""
    naive = moments.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us")) if zone else moments
    texts = pc.replace_substring_regex(naive.cast(pa.string()), r"\.?0+$", "")  # always with a fraction
    return pc.binary_join_element_wise(pc.replace_substring(texts, " ", "T"), zone, "")


def _texts(values: pa.Array, column: Column, cells: list[CellFault]) -> pa.Array:
    """Parquet may hold any bytes in a text column, Arrow does not look."""
    raw = values.cast(pa.binary()) if values.type != pa.null() else pa.nulls(len(values), pa.binary())
    try:
        made = raw.cast(pa.string())
    except pa.ArrowInvalid:
        made = _told([_decoded(value) for value in raw.to_pylist()], column, cells, raw, "invalid_utf8")
    for code, wrong in (
        ("nul_character", pc.match_substring(made, "\0")),
        ("field_too_long", pc.greater(pc.binary_length(made), FIELD_LIMIT_BYTES)),
    ):
        if pc.any(wrong).as_py():
            rows = pc.indices_nonzero(pc.fill_null(wrong, False)).to_pylist()
            cells += [CellFault(row, column.name, code) for row in rows]
            made = pc.if_else(wrong, None, made)
    return made


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _told(texts: list[Any], column: Column, cells: list[CellFault], values: pa.Array, code: str) -> pa.Array:
    """The texts; those that are None though there was a value are told."""
    there = values.is_valid().to_pylist()
    cells += [
        CellFault(row, column.name, code)
        for row, (text, is_there) in enumerate(zip(texts, there, strict=True))
        if is_there and text is None
    ]
    return pa.array(texts, pa.string())
