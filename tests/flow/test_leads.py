"""Valid events → rows of silver.leads: one row a case, all read by one Spark job."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chispa.schema_comparer import assert_schema_equality
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headwater import identity
from schemas.tables import LEADS
from tests.builders import ARRIVED, GONE, LEAD, REFINED, bronze, event, lead
from transformations.classify import classify, silver_rows

Row = dict[str, Any]
PAGE = "https://example.com/p?utm_source=a%20b&utm_medium=%C3%A9&x=1&utm_campaign=&utm_term=%zz#utm_content=c"
UNKNOWN: dict[str, Any] = {
    "/new": [1, {"a": None}],
    "/payload/company": "ACME",
    "/context/referrer": {"url": "x"},
    "/context/utm/id": 7,
    "/a~b": 1,
}
CASES: dict[str, tuple[dict[str, Any], Row]] = {
    "names keep their case and are trimmed": (
        {"/payload/first_name": "\t ada\u2003", "/payload/last_name": "de LOVELACE\n"},
        {"first_name": "ada", "last_name": "de LOVELACE"},
    ),
    "text is in NFC": (
        {"/payload/message": "e\u0301 A\u030a \u212b", "/idempotency_key": "cafe\u0301"},
        {"message": "é Å Å", "idempotency_key": "café", "id": identity.event_id("acme", "café")},
    ),
    "empty text is null": (
        {
            "/payload/first_name": "",
            "/payload/message": " \u00a0",
            "/context/utm/term": "",
            "/payload/phone": "",
        },
        {"first_name": None, "message": None, "utm_term": None, "phone": None, "extras": None},
    ),
    "text inside is left as it is": ({"/payload/message": "a  b\r\n\tc"}, {"message": "a  b\r\n\tc"}),
    "an e-mail address is in lower case": (
        {"/payload/email": " Ada@Example.COM"},
        {"email": "ada@example.com"},
    ),
    "a phone number is E.164": (
        {"/payload/phone": "+41 44 668 18 00"},
        {"phone": "+41446681800", "extras": None},
    ),
    "an invalid phone number is null, kept in extras": (
        {"/payload/phone": " 12 "},
        {"phone": None, "extras": {"/payload/phone": "12"}},
    ),
    "an invalid address is null, kept in extras": (
        {"/context/ip_address": "localhost", "/x": 1},
        {"ip_address": None, "extras": {"/context/ip_address": "localhost", "/x": 1}},
    ),
    "a valid address is canonical": ({"/context/ip_address": "2001:DB8::0:1"}, {"ip_address": "2001:db8::1"}),
    "utm comes from the body": (
        {"/context/utm": {"source": "s", "medium": "m", "campaign": "c", "content": "d", "term": "t"}},
        {"utm_source": "s", "utm_medium": "m", "utm_campaign": "c", "utm_content": "d", "utm_term": "t"},
    ),
    "utm is filled up from the page": (
        {"/context/page_url": PAGE, "/context/utm/medium": "mail"},
        {
            "utm_source": "a b",
            "utm_medium": "mail",
            "utm_campaign": None,
            "utm_content": None,
            "utm_term": None,
        },
    ),
    "utm of the page is decoded": ({"/context/page_url": PAGE}, {"utm_medium": "é", "utm_source": "a b"}),
    "a producer's event id is kept, in lower case": (
        {"/event_id": "0B5E1C52-7D0B-4E0F-9D8A-6A1F3B7C2D41"},
        {"event_id": "0b5e1c52-7d0b-4e0f-9d8a-6a1f3b7c2d41", "id": identity.event_id("acme", "key-1")},
    ),
    "without an event id both ids are made": (
        {"/event_id": GONE, "/idempotency_key": "k2"},
        {"event_id": identity.event_id("acme", "k2"), "id": identity.event_id("acme", "k2")},
    ),
    "the time is in UTC": (
        {"/received_at": "2026-03-01T13:30:00.000001+05:30"},
        {"received_at": datetime(2026, 3, 1, 8, 0, 0, 1, tzinfo=UTC)},
    ),
    "the time with a negative offset": (
        {"/received_at": "2026-02-28T23:30:00-09:30"},
        {"event_time": datetime(2026, 3, 1, 9, 0, tzinfo=UTC)},
    ),
    "unknown fields of all levels are in extras by pointer": (
        UNKNOWN,
        {
            "extras": {
                "/new": [1, {"a": None}],
                "/payload/company": "ACME",
                "/context/referrer": {"url": "x"},
                "/context/utm/id": 7,
                "/a~0b": 1,
            }
        },
    ),
    "a known name in an unknown object is unknown": (
        {"/x/email": 5, "/payload/source": "p"},
        {"extras": {"/x": {"email": 5}, "/payload/source": "p"}},
    ),
    "nothing unknown is no extras": ({}, {"extras": None}),
    "a browser is read from its header": (
        {"/context/user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
        {"browser": "Firefox", "os": "Linux"},
    ),
    "what was not said is null": (
        {"/context": None, "/metadata": GONE},
        dict.fromkeys(
            ("metadata", "ip_address", "user_agent", "geo_country", "geo_city", "device", "browser", "os")
        ),
    ),
    "the tenant and the lineage": (
        {},
        {
            "tenant_id": "acme",
            "ingested_at": ARRIVED,
            "refined_at": REFINED,
            "source_topic": "lead.ingest",
            "source_partition": 0,
            "consent": True,
        },
    ),
}


METADATA = '{"price": 10.5, "big": 12345678901234567890123, "text": "é\\n", "none": null}'
# None of these becomes a lead.
OTHERS = [lead({"/payload/consent": False}), lead({"/source": 5}), b"x"]
VALUES = [
    *[lead(changes) for changes, _ in CASES.values()],
    lead().replace(b'"metadata": {}', b'"metadata": ' + METADATA.encode()),
    *OTHERS,
]
FIRST_OFFSET = (1 << 20) - 3  # so that offsets cross the 20 bits that row_version keeps


@pytest.fixture(scope="module")
def silver(spark: SparkSession) -> DataFrame:
    """The rows of silver.leads that all values become."""
    rows = bronze(spark, VALUES, first_offset=FIRST_OFFSET).withColumn("refined_at", F.lit(REFINED))
    return rows.transform(classify(LEAD)).transform(silver_rows(LEAD))


@pytest.fixture(scope="module")
def rows(silver: DataFrame) -> list[Row]:
    """The same in Python, in the order of offsets; times with their zone, extras parsed."""
    found = sorted((row.asDict() for row in silver.collect()), key=lambda row: row["source_offset"])
    for row in found:
        times = {name: value.astimezone(UTC) for name, value in row.items() if isinstance(value, datetime)}
        row |= times | {"extras": row["extras"] and json.loads(row["extras"])}
    return found


@pytest.fixture(scope="module")
def leads(rows: list[Row]) -> dict[str, Row]:
    """The row of each case."""
    return dict(zip(CASES, rows, strict=False))


@pytest.mark.parametrize("name", CASES)
def test_a_lead_is_normalised(leads: dict[str, Row], name: str) -> None:
    expected = CASES[name][1]
    assert {column: leads[name][column] for column in expected} == expected


def test_the_rows_have_the_tables_columns_in_its_order(spark: SparkSession, silver: DataFrame) -> None:
    wanted = spark.createDataFrame([], LEADS.columns).schema
    assert_schema_equality(silver.schema, wanted, ignore_nullable=True)


def test_only_rows_with_outcome_silver_become_leads(rows: list[Row]) -> None:
    assert len(rows) == len(VALUES) - len(OTHERS)


def test_metadata_is_json_text_in_which_numbers_keep_their_value(rows: list[Row]) -> None:
    found = rows[len(CASES)]["metadata"]
    assert json.loads(found) == json.loads(METADATA)
    assert "10.5" in found and "12345678901234567890123" in found


def test_metadata_is_an_empty_object_only_when_it_was_sent(leads: dict[str, Row]) -> None:
    assert leads["the tenant and the lineage"]["metadata"] == "{}"


def test_row_version_is_the_time_in_ms_and_the_offsets_low_bits(rows: list[Row]) -> None:
    for row in rows:
        milliseconds = (row["event_time"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        assert row["row_version"] == milliseconds << 20 | row["source_offset"] & 0xFFFFF
        assert 0 < row["row_version"] < 1 << 63


def test_an_event_without_changes_is_what_it_says() -> None:
    assert json.loads(lead()) == event()
