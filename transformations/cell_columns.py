"""A column of an uploaded file at once: usual texts by Arrow, each other one by cells.py.

A shortcut for speed, never another meaning: tests/unit/test_cells.py holds both against each other.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc

from headwater.text import WHITESPACE, nfc
from schemas.dataset import Column, Dialect
from transformations.cells import Exact, exact
from transformations.column_shortcut import Made, Rule, made, replaced, unusual
from transformations.formats import FORMATS, Format
from transformations.time_columns import dates, timestamps
from transformations.values import clean_text, each, lookup

_ASCII_SPACE = "".join(letter for letter in WHITESPACE if letter.isascii())


def cleaned(column: pa.Array) -> pa.Array:
    """Texts in NFC without white space at their ends, null for what is empty then: clean_text of each."""
    made = pc.ascii_trim(column, _ASCII_SPACE)
    other = unusual(pc.string_is_ascii(made))
    if other is not None:
        made = replaced(made, other, each(clean_text, made.filter(other).to_pylist()))
    empty = pc.equal(made, "")
    return pc.if_else(empty, None, made) if pc.any(empty).as_py() else made


def rule(column: Column, dialect: Dialect) -> Rule:
    """A function of clean texts; of a date or timestamp column also of Arrow's own days or moments."""
    slow = exact(column, dialect)
    if column.kind == "integer":
        usual = "^(?:0|-?[1-9][0-9]{0,17})$"
        return lambda texts: made(
            texts, pc.match_substring_regex(texts, usual), lambda taken: (taken.cast(pa.int64()), taken), slow
        )
    if column.kind == "number":
        return _numbers(column, dialect, slow)
    if column.kind == "boolean":
        return _booleans(dialect, slow)
    if column.kind == "date":
        return dates(column, slow)
    return timestamps(column, slow) if column.kind == "timestamp" else _texts(column)


def _numbers(column: Column, dialect: Dialect, slow: Exact) -> Rule:
    whole, scale, point = column.precision - column.scale, column.scale, dialect.decimal_separator
    natural = f"0|[1-9][0-9]{{0,{whole - 1}}}" if whole else "0"
    fraction = rf"(?:{re.escape(point)}[0-9]{{1,{scale}}})?" if scale else ""
    usual = f"^-?(?:{natural}){fraction}$"
    kind = pa.decimal128(column.precision, scale)

    def quick(taken: pa.Array) -> tuple[pa.Array, pa.Array]:
        dotted = taken if point == "." else pc.replace_substring(taken, point, ".")
        padded = pc.match_substring_regex(dotted, r"\.[0-9]*0$")
        if pc.any(padded).as_py():
            dotted = pc.if_else(padded, pc.replace_substring_regex(dotted, r"\.?0+$", ""), dotted)
        nothing = pc.equal(dotted, "-0")
        if pc.any(nothing).as_py():
            dotted = pc.if_else(nothing, "0", dotted)
        return dotted.cast(kind), dotted

    return lambda texts: made(texts, pc.match_substring_regex(texts, usual), quick, slow)


def _booleans(dialect: Dialect, slow: Exact) -> Rule:
    yes, no = (text.lower() for text in dialect.booleans)

    def quick(taken: pa.Array) -> tuple[pa.Array, pa.Array]:
        values = pc.equal(taken, yes)
        return values, pc.if_else(values, "true", "false")

    def apply(texts: pa.Array) -> Made:
        lower = pc.ascii_lower(texts)
        return made(lower, pc.or_(pc.equal(lower, yes), pc.equal(lower, no)), quick, slow)

    return apply


def _texts(column: Column) -> Rule:
    form = FORMATS.get(column.format or "")
    search = re.compile(column.pattern).search if column.pattern else None
    longest = column.max_length

    def apply(texts: pa.Array) -> Made:
        kept = _lower(texts) if form and form.lower else texts
        wrong: list[tuple[pa.Array, str]] = []
        if longest is not None and (pc.max(pc.binary_length(kept)).as_py() or 0) > longest:
            wrong.append((pc.greater(pc.utf8_length(kept), longest), "rule:max_length"))
        if search:
            known = lookup(lambda text: search(text) is None, kept.to_pylist())
            if any(known.values()):
                wrong.append(
                    (pa.array([known[text] for text in kept.to_pylist()], pa.bool_()), "rule:pattern")
                )
        if form:
            wrong.append((_formless(kept, form), "rule:format"))
        faults = [
            (row, code)
            for where, code in wrong
            for row in pc.indices_nonzero(pc.fill_null(where, False)).to_pylist()
        ]
        return Made(kept, kept, faults)

    return apply


def _lower(texts: pa.Array) -> pa.Array:
    lower = pc.ascii_lower(texts)
    other = unusual(pc.string_is_ascii(texts))
    if other is None:
        return lower
    return replaced(lower, other, [nfc(text.lower()) for text in texts.filter(other).to_pylist()])


def _formless(texts: pa.Array, form: Format) -> pa.Array:
    short = pc.less_equal(pc.binary_length(texts), form.quick_length)
    usual = pc.and_(short, pc.match_substring_regex(texts, form.quick))
    other = unusual(usual)
    if other is None:
        return pc.invert(usual)
    return replaced(
        pc.invert(usual), other, [not form.exact(text) for text in texts.filter(other).to_pylist()]
    )
