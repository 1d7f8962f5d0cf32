"""A shortcut for columns: what is usual at once, by Arrow; what is not, one by one, by an exact rule."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from transformations.cells import Exact


class Made(NamedTuple):
    """A column's values of its type, their canonical texts, and what is wrong: (row, code)."""

    values: pa.Array
    texts: pa.Array
    faults: list[tuple[int, str]]


Rule = Callable[[pa.Array], Made]
# texts that are usual, or null → values, canonical texts; ArrowInvalid if one is no value all the same
Quick = Callable[[pa.Array], tuple[pa.Array, pa.Array]]


def made(texts: pa.Array, usual: pa.Array, quick: Quick, slow: Exact) -> Made:
    """What `quick` makes of usual texts, and `slow` of the others; of all if `quick` cannot take one."""
    other = unusual(usual)
    try:
        values, canonical = quick(texts if other is None else pc.if_else(usual, texts, None))
    except pa.ArrowInvalid:  # the 29th of February in most years
        values, canonical = quick(pa.nulls(len(texts), pa.string()))
        other = texts.is_valid()
    if other is None:
        return Made(values, canonical, [])
    rows = pc.indices_nonzero(other).to_pylist()
    cells = [slow(text) for text in texts.filter(other).to_pylist()]
    return Made(
        replaced(values, other, [cell.value for cell in cells]),
        replaced(canonical, other, [cell.text for cell in cells]),
        [(row, code) for row, cell in zip(rows, cells, strict=True) for code in cell.codes],
    )


def unusual(usual: pa.Array) -> pa.Array | None:
    """Where it is false, null being neither; None if that is nowhere."""
    other = pc.invert(usual)
    return pc.fill_null(other, False) if pc.any(other).as_py() else None


def replaced(column: pa.Array, where: pa.Array, values: Sequence[Any]) -> pa.Array:
    """The column with these values in the rows where it is true."""
    return pc.replace_with_mask(column, where, pa.array(values, column.type))
