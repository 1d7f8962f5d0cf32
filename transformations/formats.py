"""Forms that a text of an uploaded row must have, and the same as far as a column can be asked at once.

`quick` says yes only to texts to which `exact` says yes; the others are asked one by one.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

from transformations.validate import UUID

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\uffff-]+"
_INSIDE = r"[A-Za-z0-9\u0080-\uffff](?:[A-Za-z0-9\u0080-\uffff-]{0,61}[A-Za-z0-9\u0080-\uffff])"
# As the contract of leads has it: dot-separated atoms of RFC 5321's length, a domain of two labels or more.
EMAIL = rf"^(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@(?:{_INSIDE}?\.)+(?![0-9]+$){_INSIDE}$"
_URI = re.compile(r"https?://[^\s/?#@]+(?:[/?#]\S*)?", re.IGNORECASE)


class Format(NamedTuple):
    """`exact` of any text. `quick` is a pattern for RE2, for texts of at most `quick_length` bytes. `lower`:
    the text is kept in lower case."""

    exact: Callable[[str], bool]
    quick: str
    quick_length: int
    lower: bool


def _is_ip(kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            return bool(kind(text)) or True
        except ValueError:
            return False

    return check


_search_email = re.compile(EMAIL).search
_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"

FORMATS: dict[str, Format] = {
    "email": Format(
        exact=lambda text: _search_email(text) is not None,
        quick=rf"^[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:{_LABEL}\.)+[a-z][a-z0-9-]*[a-z0-9]$",
        quick_length=64,
        lower=True,
    ),
    "uuid": Format(
        exact=lambda text: UUID.fullmatch(text) is not None,
        quick="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        quick_length=36,
        lower=True,
    ),
    "uri": Format(
        exact=lambda text: _URI.fullmatch(text) is not None,
        quick="^https?://[a-z0-9.-]+(?:[/?#][!-~]*)?$",
        quick_length=2_048,
        lower=False,
    ),
    "ipv4": Format(
        exact=_is_ip(ipaddress.IPv4Address),
        quick=r"^(?:[1-9]?[0-9]\.){3}[1-9]?[0-9]$",
        quick_length=15,
        lower=False,
    ),
    "ipv6": Format(exact=_is_ip(ipaddress.IPv6Address), quick="^$", quick_length=0, lower=True),
}
