"""How a dataset writes its dates and times: letters as java.time has them → what reads them by column.

Stated by the contract, never guessed. One notation gives one form of text, and each text in it one moment.
"""

import re
from dataclasses import dataclass

from headwater.errors import SetupError

DAY = "yyyy-MM-dd"
_TOKEN = re.compile(r"'([^']*)'|(y+|M+|d+|H+|m+|s+|S+|X+|Z+|[A-Za-z]+)|(.)", re.DOTALL)
_GROUPS = {
    "yyyy": ("year", r"[0-9]{4}"),
    "MM": ("month", r"[0-9]{2}"),
    "M": ("month", r"[0-9]{1,2}"),
    "dd": ("day", r"[0-9]{2}"),
    "d": ("day", r"[0-9]{1,2}"),
    "HH": ("hour", r"[0-9]{2}"),
    "H": ("hour", r"[0-9]{1,2}"),
    "mm": ("minute", r"[0-9]{2}"),
    "ss": ("second", r"[0-9]{2}"),
    "XXX": ("offset", r"Z|[+-][0-9]{2}:[0-9]{2}"),
    "XX": ("offset", r"Z|[+-][0-9]{4}"),
}
_FRACTION = re.compile("S{1,6}")


@dataclass(frozen=True)
class Notation:
    """`pattern` matches the whole text, in Python's re and in RE2 alike, each of `parts` being a group.
    `single` are the parts that may have one digit."""

    text: str
    pattern: str
    parts: tuple[str, ...]
    single: tuple[str, ...] = ()

    @property
    def has_offset(self) -> bool:
        return "offset" in self.parts

    @property
    def has_time(self) -> bool:
        return "hour" in self.parts


def notation(text: str, origin: str) -> Notation:
    """The compiled notation. Raises SetupError for letters that are not known, repeated, or not enough."""
    pattern, parts, single = [], [], []
    for quoted, letters, other in _TOKEN.findall(text):
        if not letters:
            pattern.append(re.escape(quoted or other))
            continue
        if _FRACTION.fullmatch(letters):
            name, form = "fraction", rf"[0-9]{{{len(letters)}}}"
        elif letters in _GROUPS:
            name, form = _GROUPS[letters]
        else:
            known = ", ".join([*_GROUPS, "S to SSSSSS"])
            raise SetupError(f"{origin}: the notation {text!r} has {letters!r}; known: {known}")
        if name in parts:
            raise SetupError(f"{origin}: the notation {text!r} names the {name} twice")
        parts.append(name)
        if len(letters) == 1 and name != "fraction":
            single.append(name)
        pattern.append(f"({form})")
    if not {"year", "month", "day"}.issubset(parts):
        raise SetupError(f"{origin}: the notation {text!r} must name year, month and day")
    _refuse_gaps(text, parts, origin)
    return Notation(text, f"^{''.join(pattern)}$", tuple(parts), tuple(single))


def _refuse_gaps(text: str, parts: list[str], origin: str) -> None:
    """A time has hours and minutes; seconds, a fraction and an offset only behind them."""
    order = ("hour", "minute", "second", "fraction")
    named = [part in parts for part in order]
    if named != sorted(named, reverse=True) or named[:2] == [True, False]:
        raise SetupError(f"{origin}: the notation {text!r} leaves out a part of the time in between")
    if "offset" in parts and not named[0]:
        raise SetupError(f"{origin}: the notation {text!r} has an offset and no time")
