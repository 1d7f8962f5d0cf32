"""Rejected rows → ops.dead_letters: ids that a replay repeats, fingerprints that the API shares."""

import hashlib

import pytest
from chispa.schema_comparer import assert_schema_equality
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from api.dead_letters import refusal
from api.events import Refused
from api.problems import Fault
from schemas.tables import DEAD_LETTERS, LETTER_PAYLOAD_BYTES
from tests.builders import LEAD, REFINED, Headers, bronze, lead
from transformations.classify import classify
from transformations.dead_letters import to_dead_letters

TWO_FAULTS = lead({"/source": "x" * 51, "/payload/email": "nobody"})
LARGE = lead({"/source": 5, "/payload/message": "x" * 600_000})
VALUES = [b"not JSON", TWO_FAULTS, lead(), TWO_FAULTS, None, LARGE, lead({"/payload/consent": False}), b"[]"]


HEADERS: dict[int, Headers] = {
    1: [("trace", b"\xff"), ("replay_of", b"abc"), ("replay_count", b"2")],
    **{
        len(VALUES) + i: [("replay_count", text)] for i, text in enumerate([b"many", b"", b"\xff", b"9" * 30])
    },
}


@pytest.fixture(scope="module")
def letters(spark: SparkSession) -> DataFrame:
    """The dead letters of all values, and of one more for each strange header."""
    strange = [b"x" for offset in HEADERS if offset >= len(VALUES)]
    rows = bronze(spark, [*VALUES, *strange], HEADERS).withColumn("refined_at", F.lit(REFINED))
    return rows.transform(classify(LEAD)).transform(to_dead_letters("0.1.0", {LEAD.stream: LEAD.version}))


@pytest.fixture(scope="module")
def found(letters: DataFrame) -> dict[int, Row]:
    """The dead letter of each offset."""
    return {row["source_offset"]: row for row in letters.collect()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_the_columns_are_the_tables(spark: SparkSession, letters: DataFrame) -> None:
    wanted = spark.createDataFrame([], DEAD_LETTERS.columns).schema
    assert_schema_equality(letters.schema, wanted, ignore_nullable=True)


def test_only_rejected_records_become_dead_letters(found: dict[int, Row]) -> None:
    assert [offset for offset in sorted(found) if offset < len(VALUES)] == [0, 1, 3, 4, 5, 7]


def test_the_id_is_made_of_stage_and_place_so_that_a_replay_repeats_it(found: dict[int, Row]) -> None:
    for offset, row in found.items():
        assert row["dead_letter_id"] == sha256(f"{row['stage']}/lead.ingest/0/{offset}".encode())


def test_what_could_not_be_read_is_of_stage_decode_and_the_rest_of_stage_validate(
    found: dict[int, Row],
) -> None:
    assert {offset: row["stage"] for offset, row in found.items() if offset < len(VALUES)} == {
        0: "decode",
        1: "validate",
        3: "validate",
        4: "decode",
        5: "validate",
        7: "decode",
    }


def test_a_letter_carries_every_reason_without_any_value(found: dict[int, Row]) -> None:
    reasons = [(r["code"], r["rule"], r["field"]) for r in found[1]["reasons"]]
    assert reasons == [
        ("rule:max_length", "max_length", "/source"),
        ("rule:pattern", "pattern", "/payload/email"),
    ]
    assert not [r for r in found[1]["reasons"] if "nobody" in r["message"] or "xxx" in r["message"]]


def test_the_original_bytes_are_kept(found: dict[int, Row]) -> None:
    assert bytes(found[1]["payload"]) == TWO_FAULTS
    assert found[4]["payload"] is None


def test_a_large_payload_is_cut_but_its_fingerprint_is_of_the_whole(found: dict[int, Row]) -> None:
    assert len(found[5]["payload"]) == LETTER_PAYLOAD_BYTES == 256 << 10
    assert found[5]["fingerprint"] == sha256(b"type_mismatch\0" + LARGE)


def test_equal_faults_of_equal_bytes_have_one_fingerprint(found: dict[int, Row]) -> None:
    assert found[1]["fingerprint"] == found[3]["fingerprint"] != found[0]["fingerprint"]
    assert found[1]["dead_letter_id"] != found[3]["dead_letter_id"]


def test_what_the_api_refused_is_a_letter_of_stage_api_with_the_same_fingerprint(
    spark: SparkSession, found: dict[int, Row]
) -> None:
    faults = (
        Fault("/source", "rule:max_length", "y"),
        Fault("/source", "rule:max_length", "y"),
        Fault("/payload/email", "rule:pattern", "x"),
    )
    record = refusal(TWO_FAULTS, "acme", Refused(faults, None))
    rows = bronze(spark, [record.value], {0: list(record.headers)}, topic=record.topic)
    made = rows.withColumn("refined_at", F.lit(REFINED)).transform(classify(LEAD))
    (row,) = made.transform(to_dead_letters("0.1.0", {LEAD.stream: LEAD.version})).collect()
    assert (row["stage"], row["stream"], row["tenant_id"]) == ("api", "lead.ingest", "acme")
    assert (row["source_topic"], row["contract_version"]) == ("lead.refused", LEAD.version)
    assert (row["fingerprint"], bytes(row["payload"])) == (found[1]["fingerprint"], TWO_FAULTS)
    assert row["reasons"][2]["message"] == found[1]["reasons"][1]["message"]


def test_a_letter_says_when_and_by_what_it_was_judged(found: dict[int, Row]) -> None:
    row = found[1]
    assert row["failed_at"].timestamp() == REFINED.timestamp()
    assert (row["code_version"], row["contract_version"], row["status"]) == ("0.1.0", LEAD.version, "new")
    assert (row["tenant_id"], row["stream"], row["source_topic"]) == ("acme", "lead.ingest", "lead.ingest")


def test_the_headers_of_a_replay_are_read(found: dict[int, Row]) -> None:
    assert (found[1]["replay_of"], found[1]["replay_count"]) == ("abc", 2)
    assert [(h["key"], bytes(h["value"])) for h in found[1]["headers"]] == HEADERS[1]


def test_a_replay_count_that_is_no_number_is_null_and_stops_nothing(found: dict[int, Row]) -> None:
    strange = [row["replay_count"] for offset, row in found.items() if offset >= len(VALUES)]
    assert strange == [None] * 4


def test_without_headers_there_is_no_replay(found: dict[int, Row]) -> None:
    assert (found[0]["headers"], found[0]["replay_of"], found[0]["replay_count"]) == (None, None, None)
