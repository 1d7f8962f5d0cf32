"""The lines of a COPY, and what a fault of PostgreSQL means to the sink, without a server."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.postgres import classified, sqlstate_of
from sinks.postgres_copy import CopyTarget, csv_lines, not_copyable_here, plain
from sinks.postgres_upsert import upsert_statement

OUTAGES = "08006 08001 53300 57P01 57P03 57014 58030 25006 40001 40P01 55P03 XX000".split()
SETUP = "42P01 42703 42501 28P01 28000 3D000 3F000 0A000".split()


@pytest.mark.parametrize("sqlstate", OUTAGES)
def test_an_outage_is_transient(sqlstate: str) -> None:
    assert isinstance(classified(sqlstate, "leads"), TransientError)


@pytest.mark.parametrize("sqlstate", SETUP)
def test_a_missing_table_right_or_login_is_a_setup_fault_that_says_what_to_mend(sqlstate: str) -> None:
    fault = classified(sqlstate, "leads")
    assert isinstance(fault, SetupError)
    assert "run `python -m jobs migrate`" in str(fault) or "check postgres.dsn" in str(fault)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('FATAL:  password authentication failed for user "x"', SetupError),
        ('FATAL:  database "x" does not exist', SetupError),
        ("connection refused", TransientError),
        ("timeout expired", TransientError),
        ("server closed the connection unexpectedly", TransientError),
    ],
)
def test_a_fault_without_sqlstate_is_told_by_its_words(text: str, kind: type[HeadwaterError]) -> None:
    assert isinstance(classified(sqlstate_of(psycopg.OperationalError(text)), "leads"), kind)


def test_our_sentence_never_quotes_the_servers() -> None:
    fault = psycopg.OperationalError("Failing row contains (ada@example.com)")
    assert "ada" not in str(classified(sqlstate_of(fault), "leads"))


def test_a_copy_target_does_not_show_its_password() -> None:
    assert "geheim" not in repr(CopyTarget("host=h password=geheim", b"COPY"))


ATTEMPT = UUID(int=7)
MARK = b'"00000000-0000-0000-0000-000000000007"'
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
UTC_MICROS = pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("a", pa.string(), b'"a"'),
        (None, pa.string(), b""),
        ("", pa.string(), b'""'),
        ('"', pa.string(), b'""""'),
        ("\\.\n,", pa.string(), b'"\\.\n,"'),
        (True, pa.bool_(), b"true"),
        (-(2**63), pa.int64(), b"-9223372036854775808"),
        (None, pa.int32(), b""),
        (NOON, UTC_MICROS, b'"2026-03-01 12:00:00.123456Z"'),
        (None, UTC_MICROS, b""),
    ],
)
def test_a_value_is_written_as_copy_reads_it(value: object, kind: pa.DataType, said: bytes) -> None:
    rows = pa.RecordBatch.from_arrays([pa.array([value], kind)], names=["a"])
    assert bytes(csv_lines(rows, ATTEMPT)) == MARK + b"," + said + b"\n"


@given(st.lists(st.tuples(*[st.none() | st.text(st.characters(exclude_categories=["Cs"]))] * 2), min_size=1))
def test_any_texts_and_nulls_are_told_apart(rows: list[tuple[str | None, str | None]]) -> None:
    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    lines = csv_lines(pa.RecordBatch.from_arrays(columns, names=["a", "b"]), ATTEMPT)
    found = read_csv(
        pa.py_buffer(lines),
        ReadOptions(column_names=["attempt", "a", "b"]),
        ParseOptions(newlines_in_values=True),
        ConvertOptions(
            column_types=dict.fromkeys(("a", "b"), pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    assert [(row["a"], row["b"]) for row in found.to_pylist()] == rows


def test_rows_of_a_slice_are_written_alone() -> None:
    rows = pa.RecordBatch.from_pydict({"a": ["x", "y", "z"]}).slice(1, 1)
    assert bytes(csv_lines(rows, ATTEMPT)) == MARK + b',"y"\n'


@pytest.mark.parametrize(
    ("kind", "by_bytes"),
    [("text", True), ("character varying", True), ("uuid", False), ("bigint", False), ("character", False)],
)
def test_only_keys_of_text_are_compared_by_their_bytes(kind: str, by_bytes: bool) -> None:
    names = sql.Identifier("staging", "t"), sql.Identifier("public", "t")
    types = {"k": kind, "row_version": "bigint"}
    statement = upsert_statement(*names, ["k"], ["k", "row_version"], types, None).as_string()
    assert ('DISTINCT ON ("k" COLLATE "C")' in statement) is by_bytes
    assert ('ORDER BY "k" COLLATE "C", row_version::bigint DESC' in statement) is by_bytes


def test_rows_on_the_driver_become_the_lines_that_copy_reads() -> None:
    rows = pa.table(
        {
            "text": pa.array(['a"b', None]),
            "amount": pa.array([Decimal("0.000001"), Decimal("-12.500000")], pa.decimal128(30, 6)),
            "share": pa.array([0.5, 1e300]),
            "day": pa.array([0, 19_000], pa.date32()),
            "here": pa.array([True, None]),
        }
    )
    told = pa.table({name: plain(rows[name]) for name in rows.column_names}).to_batches()[0]
    lines = bytes(csv_lines(told, UUID(int=0))).decode().splitlines()
    assert [line.split(",", 1)[1] for line in lines] == [
        '"a""b","0.000001","0.5","1970-01-01",true',
        ',"-12.500000","1e+300","2022-01-08",',
    ]


def test_a_text_that_postgresql_cannot_store_is_found_on_the_driver() -> None:
    bad = pa.array([b"fine", b"a\0b", b"\xff", None]).cast(pa.string(), safe=False)
    rows = pa.table({"text": bad, "number": [1, 2, 3, 4]})
    assert not_copyable_here(rows, ["text", "number"]).to_pylist() == [False, True, True, False]
