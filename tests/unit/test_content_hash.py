"""The hash of a row's content, against a computation of its own: json and hashlib, value by value."""

import hashlib
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset import Column, Dataset
from schemas.rows import Parsed
from transformations.content_hash import content_json, hashes
from transformations.rows import judge_rows
from transformations.values import clean_text

KINDS = {
    "text": "string",
    "count": "integer",
    "price": "number",
    "agreed": "boolean",
    "day": "date",
    "at": "timestamp",
}
EVERY_KIND = Dataset(
    "every.kind",
    "1",
    tuple(
        Column(name, kind, timezone="UTC" if kind == "timestamp" else None) for name, kind in KINDS.items()
    ),
)
# Trimmed and in NFC, as values of silver are; no NUL and no half of a pair.
TEXTS = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
    | st.text(st.sampled_from('"\\/\b\t\n\f\r\x01\x1f\x7f\u2028é\U0001f469 u0'), max_size=8)
).map(lambda text: clean_text(text) or "")
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": TEXTS.filter(bool),
    "count": st.integers(-(1 << 63), (1 << 63) - 1),
    "price": st.decimals(-(10**20), 10**20, places=10) | st.integers(-999, 999).map(Decimal),
    "agreed": st.booleans(),
    "day": st.dates(),
    "at": st.datetimes(timezones=st.just(UTC))
    | st.datetimes().map(lambda at: at.replace(microsecond=0, tzinfo=UTC)),
}
ROWS = st.fixed_dictionaries({}, optional=VALUES)


def said(row: dict[str, Any]) -> dict[str, str]:
    """The canonical texts of what a row has, by their definition and not by the code under test."""
    return {name: _text(value) for name, value in row.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        whole = "".join(map(str, digits)).rjust(-int(exponent) + 1, "0")
        before, behind = (whole[:exponent], whole[exponent:]) if exponent else (whole, "")
        behind = behind.rstrip("0")
        text = f"{before.lstrip('0') or '0'}{'.' if behind else ''}{behind}"
        return f"-{text}" if sign and text != "0" else text
    if isinstance(value, datetime):
        fraction = f".{value.microsecond:06}".rstrip("0").rstrip(".")
        clock = f"{value.hour:02}:{value.minute:02}:{value.second:02}"
        return f"{value.year:04}-{value.month:02}-{value.day:02}T{clock}{fraction}Z"
    return f"{value.year:04}-{value.month:02}-{value.day:02}" if isinstance(value, date) else str(value)


def parsed(rows: list[dict[str, Any]]) -> Parsed:
    """Rows as Parquet gives them: days and moments typed, all else text."""
    typed = {"day": pa.date32(), "at": pa.timestamp("us", "UTC")}
    columns = {
        name: pa.array(
            [row.get(name) if name in typed else said(row).get(name) for row in rows],
            typed.get(name, pa.string()),
        )
        for name in KINDS
    }
    return Parsed(pa.array(range(1, len(rows) + 1), pa.int64()), columns, lambda asked: [b""] * len(asked))


@given(rows=st.lists(ROWS, max_size=8))
def test_the_hash_of_a_row_is_that_of_its_json(rows: list[dict[str, Any]]) -> None:
    found = judge_rows(EVERY_KIND)(parsed(rows))
    texts = [json.dumps(said(row), sort_keys=True, ensure_ascii=False, separators=(",", ":")) for row in rows]
    assert found.valid.column("data").to_pylist() == texts
    assert found.valid.column("content_hash").to_pylist() == [
        hashlib.sha256(text.encode()).hexdigest() for text in texts
    ]


@given(rows=st.lists(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), TEXTS), max_size=5))
def test_any_names_and_texts_make_the_json_that_pythons_json_makes(rows: list[dict[str, str]]) -> None:
    names = {name for row in rows for name in row}
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
    found = content_json(columns, len(rows)).to_pylist()
    assert found == [json.dumps(r, sort_keys=True, ensure_ascii=False, separators=(",", ":")) for r in rows]


def test_the_hash_is_known() -> None:
    found = content_json({"b": pa.array(["1", None]), "a": pa.array(['x"é', None])}, 2)
    assert found.to_pylist() == ['{"a":"x\\"é","b":"1"}', "{}"]
    assert hashes(found).to_pylist()[1] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_a_column_that_is_always_null_changes_no_hash() -> None:
    one, more = {"a": pa.array(["x"])}, {"a": pa.array(["x"]), "new": pa.nulls(1, pa.string())}
    assert hashes(content_json(one, 1)) == hashes(content_json(more, 1))


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_slice_of_a_column_is_hashed_as_its_own_rows(start: int) -> None:
    column = pa.array(["a", '"b', "c\n", "d"]).slice(start, 2)
    alone = pa.array(column.to_pylist())
    assert content_json({"k": column}, 2) == content_json({"k": alone}, 2)
    assert hashes(column) == hashes(alone)
