"""Refused rows as CSV for people with spreadsheets: no cell of it is taken for a formula."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

MEDIA_TYPE = "text/csv; charset=utf-8; header=present"
COLUMNS = ("line", "column", "code", "message", "raw_row")
# What makes a spreadsheet compute, also in its full-width form, and the blanks that it skips before.
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_GUARD = "'"


def heading() -> bytes:
    """The first line."""
    return _lines([COLUMNS])


def lines(errors: Iterable[Mapping[str, Any]]) -> bytes:
    """A line for each; null is an empty cell."""
    return _lines([harmless(error[name]) for name in COLUMNS] for error in errors)


def harmless(value: Any) -> str:
    """The value as text that no spreadsheet computes: what could be a formula begins with an apostrophe."""
    text = "" if value is None else str(value)
    return _GUARD + text if text.lstrip(" ").startswith(_STARTS) else text


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    held = io.StringIO()
    csv.writer(held, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return held.getvalue().encode()
