"""One record of CSV, read exactly: its fields, or the one reason why it has none."""

import csv

from schemas.contract import ROW_LIMIT_BYTES
from schemas.dataset import Dialect
from schemas.rows import FIELD_LIMIT_BYTES

# For all of the process: what is too long is told below, with its place.
csv.field_size_limit(ROW_LIMIT_BYTES)
# code, and the place of the field that is to blame, if one is
Fault = tuple[str, int | None]


def fields_of(record: bytes, dialect: Dialect, count: int | None) -> list[str] | Fault:
    """The fields of a record without its line end; of `count` fields, unless that is None."""
    if len(record) > ROW_LIMIT_BYTES:
        return "row_too_long", None
    if record.endswith(b"\r"):
        return "stray_carriage_return", None
    text = record.decode("utf-8", "surrogateescape")
    reader = csv.reader(
        [text],
        strict=True,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
    )
    try:
        fields = next(reader)
    except csv.Error as error:
        return _code(str(error)), None
    if count is not None and len(fields) != count:
        return "too_few_fields" if len(fields) < count else "too_many_fields", None
    return next((fault for place, field in enumerate(fields) if (fault := _fault(field, place))), fields)


def _code(message: str) -> str:
    return "stray_carriage_return" if "new-line" in message else "broken_quotes"


def _fault(field: str, place: int) -> Fault | None:
    try:
        size = len(field) if field.isascii() else len(field.encode())
    except UnicodeEncodeError:  # bytes that were no UTF-8
        return "invalid_utf8", place
    if "\0" in field:
        return "nul_character", place
    return ("field_too_long", place) if size > FIELD_LIMIT_BYTES else None
