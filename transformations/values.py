"""Values of a document → what the tables hold: plain Python, null in → null out."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.text import nfc

_INSTANT = re.compile(
    r"\s*(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:Z|([+-])(\d{2}):([0-5]\d))\s*", re.ASCII
)
# What most producers write, and Arrow reads as `instant` does.
_USUAL_INSTANT = r"^[1-9]\d{3}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z$"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_EPOCH = datetime(1970, 1, 1)
_FURTHEST_OFFSET_S = 18 * 3600
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LONGEST_PARAMETER = 255
_PAGES_REMEMBERED = 50_000
_UTM = re.compile(r"[?&]utm_(source|medium|campaign|content|term)=([^&#]*)")


def clean_text(raw: str) -> str | None:
    """Trimmed of white space, in Unicode NFC; None when nothing is left."""
    return nfc(raw).strip() or None


def instant(text: str) -> int | None:
    """Microseconds since 1970 of ISO 8601 text with an offset or Z; None when it is anything else.

    Fractions are cut to microseconds; an offset reaches to ±18:00, as in java.time.
    """
    found = _INSTANT.fullmatch(text)
    if not found:
        return None
    moment, fraction, sign, hours, minutes = found.groups()
    try:
        since = datetime.fromisoformat(moment) - _EPOCH
    except ValueError:
        return None
    away = (int(hours) * 60 + int(minutes)) * 60 if sign else 0
    if away > _FURTHEST_OFFSET_S:
        return None
    seconds = since.days * 86_400 + since.seconds - (away if sign == "+" else -away)
    return seconds * 1_000_000 + (int(fraction[:6].ljust(6, "0")) if fraction else 0)


def day(text: str) -> int | None:
    """Days since 1970 of an ISO 8601 date; None when the text is anything else."""
    said = text.strip()
    try:
        return (date.fromisoformat(said) - _EPOCH.date()).days if _DATE.fullmatch(said) else None
    except ValueError:
        return None


def instants(texts: Sequence[str | None]) -> list[int | None]:
    """`instant` of each text."""
    column = pa.array(texts, pa.string())
    try:
        if pc.min(pc.match_substring_regex(column, _USUAL_INSTANT)).as_py():
            found: list[int | None] = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
            return found
    except pa.ArrowInvalid:  # the 30th of February
        pass
    return [None if text is None else instant(text) for text in texts]


def each(function: Callable[[Any], Any], column: Sequence[Any]) -> list[Any]:
    """The function of every value, asked once for each distinct one; None for None."""
    known = lookup(function, column)
    return [known[value] for value in column]


def each_part(function: Callable[[Any], Any], column: Sequence[Any], parts: int) -> list[list[Any]]:
    """The same for a function that gives so many parts: a column of each."""
    known = {value: found or (None,) * parts for value, found in lookup(function, column).items()}
    return [[known[value][part] for value in column] for part in range(parts)]


def lookup(function: Callable[[Any], Any], column: Sequence[Any]) -> dict[Any, Any]:
    """What the function gives for each distinct value of a column; None for None."""
    return {value: None if value is None else function(value) for value in set(column)}


@lru_cache(maxsize=_PAGES_REMEMBERED)
def campaign(url: str) -> Mapping[str, str]:
    """The utm_* parameters of a URL without their prefix, percent-decoded, cut to 255 characters; the first
    of each name counts, unreadable ones are left out."""
    found: dict[str, str] = {}
    for name, raw in reversed(_UTM.findall(url)):
        text = _percent_decoded(raw)
        if text is not None:
            found[name] = text
        else:
            found.pop(name, None)
    return found


def _percent_decoded(raw: str) -> str | None:
    if _BROKEN_ESCAPE.search(raw):
        return None
    plain = raw.replace("+", " ")
    if "%" in plain:
        try:
            plain = _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), plain.encode()).decode()
        except UnicodeDecodeError:
            return None
    return clean_text(plain[:_LONGEST_PARAMETER])
