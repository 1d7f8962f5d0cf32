"""One value of a document → what the tables hold: plain Python, null in → null out."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

from headwater.text import nfc

_INSTANT = re.compile(
    r"\s*(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(?:Z|([+-])(\d{2}):([0-5]\d))\s*", re.ASCII
)
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
