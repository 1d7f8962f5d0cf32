"""Values of uploaded rows: what each text becomes, and columns at once held against texts one by one."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import event as note
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import contracts
from schemas.dataset import Column, Dialect
from schemas.notation import notation
from tests.unit.test_values import TEXT, nearly_iso
from transformations.cell_columns import cleaned, rule
from transformations.cells import exact
from transformations.formats import EMAIL, FORMATS
from transformations.values import clean_text

GERMAN = Dialect(decimal_separator=",", booleans=("ja", "nein"))
PLAIN = Dialect()


def dated(kind: str, form: str, zone: str | None = None) -> Column:
    return Column("c", kind, notation=notation(form, "x"), timezone=zone)


COLUMNS = {
    "integer": (Column("c", "integer"), PLAIN),
    "number": (Column("c", "number", precision=6, scale=2), PLAIN),
    "whole number": (Column("c", "number", precision=4, scale=0), PLAIN),
    "fraction": (Column("c", "number", precision=3, scale=3), PLAIN),
    "German number": (Column("c", "number", precision=6, scale=2), GERMAN),
    "boolean": (Column("c", "boolean"), PLAIN),
    "German boolean": (Column("c", "boolean"), GERMAN),
    "date": (dated("date", "yyyy-MM-dd"), PLAIN),
    "German date": (dated("date", "dd.MM.yyyy"), PLAIN),
    "American date": (dated("date", "M/d/yyyy"), PLAIN),
    "instant": (Column("c", "timestamp"), PLAIN),
    "time with offset": (dated("timestamp", "yyyy/M/d H:mmXXX"), PLAIN),
    "time with short offset": (dated("timestamp", "yyyyMMdd'T'HHmmssXX"), PLAIN),
    "time in Berlin": (dated("timestamp", "dd.MM.yyyy HH:mm:ss.SSS", "Europe/Berlin"), PLAIN),
    "time in UTC": (dated("timestamp", "yyyy-MM-dd HH:mm", "UTC"), PLAIN),
    "text": (Column("c", "string", max_length=5, pattern="^[a-z\u00e4]+$"), PLAIN),
    **{name: (Column("c", "string", format=name), PLAIN) for name in FORMATS},
}
DIGITS = st.text(st.sampled_from("0123456789.,-+eE "), max_size=9)
NUMBERS = st.decimals(-99_999, 99_999, places=3).map(str) | st.integers(-99_999, 99_999).map(str) | DIGITS
DAYS = st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
GERMAN_DAYS = st.builds(
    "{:02}.{:02}.{:04}".format, st.integers(0, 32), st.integers(0, 13), st.integers(0, 9999)
)
CLOCKS = st.builds("{:02}:{:02}:{:02}.{:03}".format, *[st.integers(0, 61)] * 3, st.integers(0, 999))
LOCAL = st.builds("{} {}".format, GERMAN_DAYS, CLOCKS) | st.builds(
    "{:02}.03.2026 0{}:30:00.000".format, st.integers(27, 31), st.integers(0, 4)
)
SLASHED = st.builds("{}/{}/{}".format, *[st.integers(0, 31)] * 2, st.sampled_from([2024, 2025, 2026]))
OFFSETS = st.builds(
    "2026/{}/{} {}:{:02}{}".format,
    *[st.integers(1, 12)] * 3,
    st.integers(0, 60),
    st.sampled_from(["Z", "+02:00", "-18:00", "+18:01", "+23:59", "+24:00", "+0200", ""]),
)
EMAILS = ["a@b.cc", "A.B@Example.COM", "a@b", "a..b@c.de", "\u0130@x.de", "a@b.1"]
ADDRESSES = ["1.2.3.4", "::1", "01.2.3.4", "1.2.3.256", "https://x.de/a?b", "HTTP://x", "https://"]
WORDS = ["0B5E1C52-7D0B-4E0F-9D8A-6A1F3B7C2D41", "ja", "JA", "Nein", "TRUE"]
NAMES = st.sampled_from([*EMAILS, *ADDRESSES, *WORDS])
LIKELY = st.one_of(NUMBERS, DAYS, GERMAN_DAYS, nearly_iso(), LOCAL, SLASHED, OFFSETS, NAMES, TEXT, st.none())


def one_by_one(name: str, texts: list[str | None]) -> list[tuple[Any, str | None, tuple[str, ...]]]:
    decide = exact(*COLUMNS[name])
    cleaned_texts = [None if text is None else clean_text(text) for text in texts]
    return [(None, None, ()) if text is None else tuple(decide(text)) for text in cleaned_texts]  # type: ignore[misc]


def at_once(name: str, texts: list[str | None]) -> list[tuple[Any, str | None, tuple[str, ...]]]:
    made = rule(*COLUMNS[name])(cleaned(pa.array(texts, pa.string())))
    codes: list[tuple[str, ...]] = [()] * len(texts)
    for row, code in made.faults:
        codes[row] += (code,)
    values = made.values.cast(pa.int64()) if pa.types.is_timestamp(made.values.type) else made.values
    return list(zip(values.to_pylist(), made.texts.to_pylist(), codes, strict=True))


@pytest.mark.parametrize("name", COLUMNS)
@given(texts=st.lists(LIKELY, max_size=6))
def test_a_column_at_once_is_what_its_texts_are_one_by_one(name: str, texts: list[str | None]) -> None:
    expected = one_by_one(name, texts)
    note(f"valid: {any(text is not None and not codes for _, text, codes in expected)}")
    assert at_once(name, texts) == expected


@pytest.mark.parametrize(
    ("name", "text", "value", "canonical"),
    [
        ("integer", " 007 ", 7, "7"),
        ("integer", "-0", 0, "0"),
        ("integer", "9223372036854775807", (1 << 63) - 1, "9223372036854775807"),
        ("number", "1234.50", Decimal("1234.50"), "1234.5"),
        ("number", "-0.00", Decimal(0), "0"),
        ("number", "1e2", Decimal(100), "100"),
        ("German number", "1234,50", Decimal("1234.5"), "1234.5"),
        ("boolean", "TRUE", True, "true"),
        ("German boolean", "Nein", False, "false"),
        ("German date", "01.02.2026", date(2026, 2, 1), "2026-02-01"),
        ("American date", "2/1/2026", date(2026, 2, 1), "2026-02-01"),
        ("instant", "2026-03-01T12:00:00.500+02:00", 1_772_359_200_500_000, "2026-03-01T10:00:00.5Z"),
        ("time in Berlin", "01.07.2026 12:00:00.000", 1_782_900_000_000_000, "2026-07-01T10:00:00Z"),
        ("email", "Ada@EXAMPLE.com", "ada@example.com", "ada@example.com"),
        ("text", " a\u0308 ", "\u00e4", "\u00e4"),
    ],
)
def test_a_text_has_one_value_and_one_canonical_text(
    name: str, text: str, value: Any, canonical: str
) -> None:
    assert at_once(name, [text]) == one_by_one(name, [text]) == [(value, canonical, ())]


@pytest.mark.parametrize(
    ("name", "text", "codes"),
    [
        ("integer", "1.0", ("type_mismatch",)),
        ("integer", "\u0661", ("type_mismatch",)),
        ("integer", "9223372036854775808", ("number_out_of_range",)),
        ("number", "1.555", ("number_out_of_range",)),
        ("number", "10000", ("number_out_of_range",)),
        ("number", "1e400", ("number_out_of_range",)),
        ("number", "NaN", ("type_mismatch",)),
        ("number", "1,5", ("type_mismatch",)),
        ("German number", "1.234,50", ("type_mismatch",)),
        ("boolean", "1", ("type_mismatch",)),
        ("date", "2026-02-29", ("type_mismatch",)),
        ("date", "0000-01-01", ("type_mismatch",)),
        ("German date", "2026-02-01", ("type_mismatch",)),
        ("German date", "1.2.2026", ("type_mismatch",)),
        ("instant", "2026-03-01T12:00:00", ("type_mismatch",)),
        ("instant", "0001-01-01T00:00:00+01:00", ("type_mismatch",)),
        ("time in Berlin", "29.03.2026 02:30:00.000", ("ambiguous_time",)),
        ("time in Berlin", "25.10.2026 02:30:00.000", ("ambiguous_time",)),
        ("text", "ABCDEF", ("rule:max_length", "rule:pattern")),
        ("email", "ada@localhost", ("rule:format",)),
    ],
)
def test_a_text_that_is_no_value_says_why(name: str, text: str, codes: tuple[str, ...]) -> None:
    assert at_once(name, [text])[0][2] == one_by_one(name, [text])[0][2] == codes


@given(
    texts=st.lists(
        TEXT | st.none() | st.text(st.sampled_from(" \x1f\u2003\u0301e\n"), max_size=5), max_size=6
    )
)
def test_a_column_is_cleaned_as_its_texts_are(texts: list[str | None]) -> None:
    assert cleaned(pa.array(texts, pa.string())).to_pylist() == [
        None if text is None else clean_text(text) for text in texts
    ]


def test_an_email_is_what_the_lead_contract_says() -> None:
    [lead] = [field for field in contracts()["lead.ingest"].leaves if field.name == "email"]
    assert lead.pattern == EMAIL


def test_one_wrong_day_does_not_change_the_others() -> None:
    found = at_once("date", ["2026-02-28", "2026-02-29", "2024-02-29"])
    assert [canonical for _, canonical, _ in found] == ["2026-02-28", None, "2024-02-29"]


def test_moments_of_a_typed_file_need_no_notation() -> None:
    column = replace(COLUMNS["time in Berlin"][0])
    made = rule(column, PLAIN)(pa.array([1_772_359_200_000_000, None], pa.timestamp("us", "UTC")))
    assert made.texts.to_pylist() == ["2026-03-01T10:00:00Z", None]
