"""JSON objects whose fields are known beforehand → their values by column, by a C parser.

A shortcut for speed, never another meaning: what it takes is what schemas/envelope.py reads of the same
bytes. In any doubt it takes nothing.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec

from schemas.contract import MAX_DEPTH
from schemas.envelope import LONGEST_NUMBER, float_as_decimal
from schemas.rows import FIELD_LIMIT_BYTES

_OF_NUMBERS = b"0123456789.eE+-"
_AS_DIGITS = bytes.maketrans(_OF_NUMBERS, b"0" * len(_OF_NUMBERS))
_LONG_NUMBER = b"0" * LONGEST_NUMBER

_READERS = 16
_UNFIT = re.compile(r'[\x00-\x1f"\\]')  # in a name: the parser would not know it

Columns = list[list[Any]]
# documents → the values of each column, and which of the documents are in doubt: they have none
KnownColumns = Callable[[Sequence[bytes]], tuple[Columns, list[int]]]


@lru_cache(maxsize=_READERS)
def known_columns(names: tuple[str, ...], refuses_others: bool) -> KnownColumns:
    """What reads objects with these fields; None stands where nothing was said.

    Made once in a process, not once for each chunk.
    """
    if any(map(_UNFIT.search, names)):
        return lambda raws: ([[None] * len(raws) for _ in names], list(range(len(raws))))
    # Any other text may be a name. Objects that do not refer to each other need no garbage collection.
    fields = [(f"f_{place}", Any, None) for place in range(len(names))]
    renamed = {f"f_{place}": name for place, name in enumerate(names)}
    kind = msgspec.defstruct("Row", fields, rename=renamed, forbid_unknown_fields=refuses_others, gc=False)
    decode, nothing = msgspec.json.Decoder(kind, float_hook=float_as_decimal).decode, kind()
    columns = [attrgetter(field) for field, _, _ in fields]

    def decoded(raw: bytes) -> Any:
        try:
            return decode(raw)
        except (msgspec.DecodeError, ArithmeticError, ValueError, RecursionError):
            return nothing

    def read(raws: Sequence[bytes]) -> tuple[Columns, list[int]]:
        whole = b"".join(raws)
        if _hides_something(whole, raws):
            rows = [nothing] * len(raws)
        else:
            rows = list(map(decoded, raws))
        doubtful = [place for place, row in enumerate(rows) if row is nothing]
        # Each that was read has a bracket of its own. Only with many more than that can one be too deep.
        if _brackets(whole) - (len(rows) - len(doubtful)) >= MAX_DEPTH:
            deep = {place for place, raw in enumerate(raws) if _brackets(raw) > MAX_DEPTH}
            doubtful = sorted(deep.union(doubtful))
        return [list(map(column, rows)) for column in columns], doubtful

    return read


def _hides_something(whole: bytes, raws: Sequence[bytes]) -> bool:
    """Whether one may hold U+0000, a number beyond a double, or a value longer than a field may be."""
    if b"\\u0000" in whole or _LONG_NUMBER in whole.translate(_AS_DIGITS):
        return True
    return max(map(len, raws), default=0) > FIELD_LIMIT_BYTES


def _brackets(raw: bytes) -> int:
    return raw.count(b"{") + raw.count(b"[")
