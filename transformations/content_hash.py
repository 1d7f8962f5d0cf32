"""The identity of a row's content: SHA-256 of its canonical JSON.

Canonical JSON of a row is an object in UTF-8, without white space, of every column that has a value:
- A column without one (absent, null, or blank) is left out. So a column that a dataset gains later, and older
  rows do not have, changes no hash.
- Keys are sorted by code point. Every value is a JSON string, of the canonical text of its type (cells.py).
- In keys and values `"` and `\\` are escaped by `\\`. Backspace, tab, line feed, form feed and carriage
  return are `\\b \\t \\n \\f \\r`; any other character before U+0020 is `\\u00xx` in lower case. No other
  is escaped.

In Python: sha256(json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()).
transformations/columns.py says the same as a Spark column.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ESCAPED = r'[\x00-\x1f"\\]'
_SPACE, _QUOTE, _BACKSLASH = 0x20, ord('"'), ord("\\")


def content_json(columns: Mapping[str, pa.Array], rows: int) -> pa.Array:
    """The canonical JSON of so many rows, of the canonical texts of their columns."""
    names = sorted(name for name, column in columns.items() if column.null_count < rows)
    full = next((name for name in names if columns[name].null_count == 0), None)
    # Commas stand before or behind each member, on the side of one that every row has. Each row has a brace:
    # Arrow leaves out rows of which all parts are null.
    parts: list[Any] = ["{"]
    for name in names:
        before, behind = ("", ",") if full and name < full else (",", "")
        before, behind = ("", "") if name == full else (before, behind)
        key, texts, end = f'{before}{_quoted(name)}:"', escaped(columns[name]), f'"{behind}'
        whole = texts.null_count == 0
        parts += [key, texts, end] if whole else [pc.binary_join_element_wise(key, texts, end, "")]
    if not names:
        return pa.array(["{}"] * rows, pa.string())
    made = pc.binary_join_element_wise(*parts, "}", "", null_handling="skip")
    return made if full else pc.replace_substring_regex(made, r"^\{,", "{")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def escaped(texts: pa.Array) -> pa.Array:
    """The texts as they stand between the quotes of canonical JSON."""
    data = _bytes(texts)
    if not ((data < _SPACE) | (data == _QUOTE) | (data == _BACKSLASH)).any():
        return texts
    where = pc.fill_null(pc.match_substring_regex(texts, ESCAPED), False)
    made = [_quoted(text)[1:-1] for text in texts.filter(where).to_pylist()]
    return pc.replace_with_mask(texts, where, pa.array(made, pa.string()))


def _bytes(texts: pa.Array) -> NDArray[np.uint8]:
    """All bytes of a column, one text behind the other."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return np.zeros(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]


def hashes(texts: pa.Array) -> pa.Array:
    """SHA-256 in hex of each text; there is no null among them."""
    if not len(texts):
        return pa.array([], pa.string())
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    view, digest = memoryview(data), hashlib.sha256
    return pa.array([digest(view[start:end]).hexdigest() for start, end in pairwise(bounds)], pa.string())
