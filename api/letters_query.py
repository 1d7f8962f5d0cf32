"""Which dead letters a query, or the filter in a body, asks for: one table for both."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from api.query import Parameter
from sources.letters.groups import BY
from sources.letters.newest import Place
from sources.letters.wanted import STATUSES, Wanted, moment

MAX_LIMIT = 500
DEFAULT_LIMIT = 100
MAX_TEXT = 255
ID = "[0-9a-f]{64}"
CURSOR = f"[0-9]{{1,16}}-{ID}"
# By which the letters of one tenant are grouped.
GROUPINGS = tuple(name.replace("-", "_") for name in BY if name != "tenant")
_ID, _CURSOR = re.compile(ID), re.compile(CURSOR)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_id(text: str) -> bool:
    """Whether a letter may be called so."""
    return bool(_ID.fullmatch(text))


def cursor_of(letter: Mapping[str, Any]) -> str:
    """The cursor behind this letter in the list."""
    micros = (letter["failed_at"] - _EPOCH) // timedelta(microseconds=1)
    return f"{micros}-{letter['dead_letter_id']}"


def wanted_of(found: Mapping[str, Any], tenant: str) -> Wanted:
    """The filter of what was given, within the tenant."""
    return Wanted(tenant=tenant, **{name: found[name] for name in FILTER if name in found})


def _passing(test: Callable[[str], object]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not test(text):
            raise ValueError
        return text

    return read


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise ValueError
    return int(text)


def _place(text: str) -> Place:
    if not _CURSOR.fullmatch(text):
        raise ValueError
    micros, _, name = text.partition("-")
    try:
        return _EPOCH + timedelta(microseconds=int(micros)), name
    except OverflowError:
        raise ValueError from None


def _groupings(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - {*GROUPINGS} or len({*names}) < len(names):
        raise ValueError
    return [name.replace("_", "-") for name in names]


_TEXT = Parameter(
    _passing(lambda text: 0 < len(text) <= MAX_TEXT and "\0" not in text),
    f"is not text of 1 to {MAX_TEXT} characters",
)
_TIME = Parameter(moment, "is not a time such as 2026-03-31T10:00:00Z")
FILTER = {
    "stream": _TEXT,
    "stage": _TEXT,
    "reason": _TEXT,
    "fingerprint": Parameter(_passing(is_id), "is not 64 of 0-9 a-f"),
    "contract_version": _TEXT,
    "status": Parameter(_passing(STATUSES.__contains__), "is not one of " + ", ".join(STATUSES)),
    "since": _TIME,
    "until": _TIME,
}
_MOST = Parameter(_limit, f"is not a number from 1 to {MAX_LIMIT}")
LIST = FILTER | {"cursor": Parameter(_place, "is not a cursor that an answer gave"), "limit": _MOST}
STATS = FILTER | {
    "by": Parameter(_groupings, "is not a list, each once, of " + ", ".join(GROUPINGS)),
    "limit": _MOST,
}
