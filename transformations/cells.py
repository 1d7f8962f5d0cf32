"""One value of an uploaded row, exactly: text of the file → value and canonical text, or why there is none.

The canonical text is what is hashed. One value has one text:
string: itself; integer: digits; number: digits and a point where needed, no exponent, no needless zero;
boolean: true or false; date: 2026-03-01; timestamp: 2026-03-01T12:00:00Z in UTC, with a fraction of a second
if it has one, without zeros at its end.
"""

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from headwater.decimals import plain
from headwater.text import nfc
from schemas.dataset import Column, Dialect
from schemas.notation import Notation
from transformations.formats import FORMATS
from transformations.values import instant

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?", re.ASCII)
_LONGEST_NUMBER = 400
_INTEGERS = range(-(1 << 63), 1 << 63)
_EPOCH = datetime(1970, 1, 1)
FIRST_US = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z
LAST_US = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z


class Cell(NamedTuple):
    """`value` and `text` are None if a code says that there is no value of the column's type."""

    value: Any
    text: str | None
    codes: tuple[str, ...] = ()


Exact = Callable[[Any], Cell]
_MISMATCH = Cell(None, None, ("type_mismatch",))
_OUT_OF_RANGE = Cell(None, None, ("number_out_of_range",))
_AMBIGUOUS = Cell(None, None, ("ambiguous_time",))


def exact(column: Column, dialect: Dialect) -> Exact:
    """A function of a text that is clean and not empty."""
    if column.kind == "integer":
        return _integer
    if column.kind == "number":
        return _number(column, dialect)
    if column.kind == "boolean":
        return _boolean(dialect)
    if column.kind == "date" and column.notation:
        return _date(column.notation)
    return _timestamp(column) if column.kind == "timestamp" else _text(column)


def instant_text(since_us: int) -> str:
    """The canonical text of a moment, given in microseconds since 1970."""
    text = (_EPOCH + timedelta(microseconds=since_us)).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"


def _integer(text: str) -> Cell:
    if not _INTEGER.fullmatch(text):
        return _MISMATCH
    value = int(text) if len(text) <= _LONGEST_NUMBER else None
    return Cell(value, str(value)) if value is not None and value in _INTEGERS else _OUT_OF_RANGE


def _number(column: Column, dialect: Dialect) -> Exact:
    point, whole, scale = dialect.decimal_separator, column.precision - column.scale, column.scale

    def cell(text: str) -> Cell:
        if point != "." and "." in text:
            return _MISMATCH
        dotted = text.replace(point, ".")
        if not _NUMBER.fullmatch(dotted):
            return _MISMATCH
        value = Decimal(dotted) if len(dotted) <= _LONGEST_NUMBER else None
        made = None if value is None else plain(value)
        if value is None or made is None:
            return _OUT_OF_RANGE
        before, _, behind = made.lstrip("-").partition(".")
        fits = len(before.lstrip("0")) <= whole and len(behind) <= scale
        return Cell(Decimal(made), made) if fits else _OUT_OF_RANGE

    return cell


def _boolean(dialect: Dialect) -> Exact:
    yes, no = (text.lower() for text in dialect.booleans)
    known = {yes: Cell(True, "true"), no: Cell(False, "false")}
    return lambda text: known.get(text.lower(), _MISMATCH)


def _date(stated: Notation) -> Exact:
    parts = _parts(stated)

    def cell(text: str) -> Cell:
        found = parts(text)
        if found is None:
            return _MISMATCH
        value = date(found.year, found.month, found.day)
        return Cell(value, value.isoformat())

    return cell


def _timestamp(column: Column) -> Exact:
    if column.notation is None:
        return lambda text: moment(instant(text))
    parts, zone = _parts(column.notation), ZoneInfo(column.timezone) if column.timezone else None

    def cell(text: str) -> Cell:
        found = parts(text)
        if found is None:
            return _MISMATCH
        return localised(found, zone) if zone else moment(_since(found))

    return cell


def moment(since_us: int | None) -> Cell:
    """Microseconds since 1970 as a cell; a moment before year 1 or after 9999 is none."""
    if since_us is None or not FIRST_US <= since_us <= LAST_US:
        return _MISMATCH
    return Cell(since_us, instant_text(since_us))


def localised(local: datetime, zone: ZoneInfo) -> Cell:
    """The moment of a local time that is there once."""
    try:
        first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    except OverflowError:
        return _MISMATCH
    if first is None or first != second:
        return _AMBIGUOUS
    return moment(_since(local) - first // timedelta(microseconds=1))


def _since(found: datetime) -> int:
    """Microseconds since 1970, of a time without a zone as if it were in UTC."""
    away = found.utcoffset() or timedelta()
    return (found.replace(tzinfo=None) - _EPOCH - away) // timedelta(microseconds=1)


def _parts(stated: Notation) -> Callable[[str], datetime | None]:
    """A function of text → the date and time that it names; None when it is not of this notation."""
    form = re.compile(stated.pattern, re.ASCII)

    def read(text: str) -> datetime | None:
        found = form.fullmatch(text)
        if not found:
            return None
        said = dict(zip(stated.parts, found.groups(), strict=True))
        names = ("year", "month", "day", "hour", "minute", "second")
        year, month, day, hour, minute, second = (int(said.get(name, "0")) for name in names)
        micros = int(said.get("fraction", "0").ljust(6, "0"))
        try:
            return datetime(year, month, day, hour, minute, second, micros, _offset(said.get("offset")))
        except ValueError:
            return None

    return read


def _offset(text: str | None) -> timezone | None:
    """Raises ValueError for an offset of a day or more, or of more than 59 minutes behind the hours."""
    if text is None or text == "Z":
        return None
    hours, minutes = int(text[1:3]), int(text[-2:])
    if minutes > 59:
        raise ValueError(text)
    away = timedelta(hours=hours, minutes=minutes)
    return timezone(-away if text[0] == "-" else away)


def _text(column: Column) -> Exact:
    form = FORMATS.get(column.format or "")
    search = re.compile(column.pattern).search if column.pattern else None
    longest = column.max_length

    def cell(text: str) -> Cell:
        kept = nfc(text.lower()) if form and form.lower else text
        codes = [
            code
            for code, is_wrong in (
                ("rule:max_length", longest is not None and len(kept) > longest),
                ("rule:pattern", search is not None and not search(kept)),
                ("rule:format", form is not None and not form.exact(kept)),
            )
            if is_wrong
        ]
        return Cell(kept, kept, tuple(codes))

    return cell
