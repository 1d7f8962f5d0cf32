"""Column functions against plain Python, on values that nobody thought of: one Spark job an example."""

import json
import unicodedata
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from headwater.identity import NAMESPACE
from headwater.text import WHITESPACE
from tests.builders import bronze, lead
from transformations.columns import clean_text, dedupe_hash, event_uuid, instant, row_version, utm_parameter
from transformations.envelope import parse_json

FEW = settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would start a Spark job a step
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
MANY = 200
# Everything that has a UTF-8 form, the characters that rules speak of more often than others.
TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(
            WHITESPACE + "e\u0301\u0323\u212b\u1e9b\ufb01\u1100\u1161\u00e9%&=?#+aZ0\u200b\ufeff"
        ),
    ),
    max_size=20,
)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
OFFSETS = st.integers(-18 * 60, 18 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=True) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=4,
)
SPLICES = [
    b"",
    b" ",
    b",",
    b'"',
    b"}",
    b"]",
    b"{",
    b"[",
    b":",
    b"0",
    b"1e5",
    b"\\",
    b"\\u00e9",
    b"null",
    b"NaN",
]
SPLICES += [
    b"\n",
    b"\t",
    b"\x00",
    b"\x1f",
    b"'a'",
    b"//",
    b'"k":1',
    b',"b":1',
    b',"zz":1',
    b',"z":{}',
    b"-",
    b"+",
]


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=MANY, max_size=MANY)


def computed(
    spark: SparkSession, rows: Sequence[tuple[Any, ...]], ddl: str, made: Callable[..., Column]
) -> list[Any]:
    """The column of every row, in order."""
    names = [part.split()[0] for part in ddl.split(",")]
    numbered = [(i, *row) for i, row in enumerate(rows)]
    frame = spark.createDataFrame(numbered, f"n INT, {ddl}").select(
        "n", made(*map(F.col, names)).alias("found")
    )
    return [row["found"] for row in sorted(frame.collect(), key=lambda row: row["n"])]


@st.composite
def json_like(draw: st.DrawFn) -> bytes:
    """A JSON document, most often damaged in one place."""
    text = json.dumps(draw(JSON), ensure_ascii=True).encode()
    at = draw(st.sampled_from([0, len(text), draw(st.integers(0, len(text)))]))
    cut = draw(st.sampled_from([0, 0, 0, 1, 2]))
    return text[:at] + draw(st.sampled_from(SPLICES)) + text[at + cut :]


def strictly_json(data: bytes) -> bool:
    """Whether Python's parser, told to be strict, takes it."""

    def refuse(_: str) -> None:
        raise ValueError

    try:
        json.loads(data.decode(), parse_constant=refuse)
    except ValueError:
        return False
    return True


@FEW
@given(values=lists(TEXT))
def test_clean_text_is_nfc_stripped_and_null_when_empty(spark: SparkSession, values: list[str]) -> None:
    expected = [unicodedata.normalize("NFC", value).strip(WHITESPACE) or None for value in values]
    assert computed(spark, [(value,) for value in values], "raw STRING", clean_text) == expected


@FEW
@given(pairs=lists(st.tuples(TEXT, TEXT)))
def test_event_uuid_is_pythons_uuid5(spark: SparkSession, pairs: list[tuple[str, str]]) -> None:
    expected = [str(uuid.uuid5(NAMESPACE, f"{tenant}\0{key}")) for tenant, key in pairs]
    assert computed(spark, pairs, "tenant STRING, key STRING", event_uuid) == expected


@FEW
@given(parts=st.lists(st.tuples(*[st.text("a1:2", max_size=4)] * 4), min_size=MANY, unique=True))
def test_dedupe_hash_tells_all_parts_apart(spark: SparkSession, parts: list[tuple[str, ...]]) -> None:
    found = computed(
        spark,
        parts,
        "stream STRING, tenant STRING, key1 STRING, key2 STRING",
        lambda stream, tenant, *key: dedupe_hash(stream, tenant, key),
    )
    assert len(set(found)) == len(parts)


@FEW
@given(values=lists(st.tuples(MOMENTS, st.integers(0, (1 << 20) - 1))))
def test_row_versions_are_ordered_by_time_then_offset(
    spark: SparkSession, values: list[tuple[datetime, int]]
) -> None:
    found = computed(spark, values, "event_time TIMESTAMP, offset BIGINT", row_version)
    keys = [
        ((at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1), offset)
        for at, offset in values
    ]
    assert found == [milliseconds << 20 | offset for milliseconds, offset in keys]
    assert sorted(range(MANY), key=lambda i: found[i]) == sorted(range(MANY), key=lambda i: keys[i])


@FEW
@given(
    values=lists(st.tuples(MOMENTS, OFFSETS, st.sampled_from(["seconds", "milliseconds", "microseconds"])))
)
def test_instant_reads_what_python_reads(spark: SparkSession, values: list[tuple[Any, ...]]) -> None:
    texts = [at.astimezone(zone).isoformat(timespec=precision) for at, zone, precision in values]
    found = computed(spark, [(text,) for text in texts], "text STRING", instant)
    assert [at.astimezone(UTC) for at in found] == [
        datetime.fromisoformat(text).astimezone(UTC) for text in texts
    ]


@FEW
@given(values=lists(TEXT | st.text("0123456789-:T.Z+ ", max_size=30)))
def test_instant_takes_any_text_and_gives_a_time_or_null(spark: SparkSession, values: list[str]) -> None:
    found = computed(spark, [(value,) for value in values], "text STRING", instant)
    assert all(at is None or isinstance(at, datetime) for at in found)


@FEW
@given(values=lists(st.tuples(st.sampled_from(["", "?utm_source=", "x?a=b&utm_source="]), TEXT)))
def test_utm_parameter_takes_any_text(spark: SparkSession, values: list[tuple[str, str]]) -> None:
    rows = [(before + rest,) for before, rest in values]
    found = computed(spark, rows, "url STRING", lambda url: utm_parameter(url, "source"))
    assert all(text is None or (text and len(text) <= 255) for text in found)


@pytest.mark.parametrize("prefix", [b"", b'{"tenant_id": "acme"}'])
@FEW
@given(values=st.lists(json_like(), min_size=20, max_size=20))  # documents are large to draw
def test_what_is_json_is_decided_as_a_strict_parser_decides(
    spark: SparkSession, values: list[bytes], prefix: bytes
) -> None:
    data = [prefix + value for value in [*values, *SPLICES, lead()]]
    rows = bronze(spark, data).transform(parse_json).select("offset", "fault").collect()
    refused = {data[row["offset"]] for row in rows if row["fault"] in ("malformed_json", "empty")}
    # Bytes that are not UTF-8 have a fault of their own.
    assert refused == {value for value in data if value.isascii() and not strictly_json(value)}
