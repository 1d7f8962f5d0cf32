"""Imports from storage to every table, by a worker with real servers and Spark in this process."""

import gzip
import hashlib
import io
import json
import zipfile

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.integration.uploads.imports import HEADER, Office, contact, contacts

NOBODY = contact(900, email="nobody")


def plain(number: int) -> dict[str, str]:
    """What a contact is when it is normalised."""
    return {
        "balance": f"{number}.5",
        "contact_id": str(number),
        "country": "DE",
        "email": f"p{number}@example.com",
        "first_name": "Zoë",
        "updated_at": "2026-03-01T12:00:00Z",
    }


def content_hash(row: dict[str, str]) -> str:
    """As docs/uploads.md says it."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def documents(first: int, last: int) -> list[dict[str, object]]:
    found = []
    for number in range(first, last + 1):
        names = HEADER.strip().split(",")
        row: dict[str, object] = dict(zip(names, contact(number).strip().split(","), strict=True))
        found.append(row | {"contact_id": number, "balance": number + 0.5})
    return found


def zipped(*members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(members):
            archive.writestr(f"part{number}.csv", content)
    return made.getvalue()


def as_parquet(first: int, last: int) -> bytes:
    rows = [row | {"balance": str(row["balance"])} for row in documents(first, last)]
    made = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), made)
    return made.getvalue()


FORMATS = [
    contacts(1, 3),
    json.dumps(documents(11, 13)).encode(),
    "\n".join(map(json.dumps, documents(21, 23))).encode(),
    gzip.compress(contacts(31, 33)),
    zipped(contacts(41, 42), contacts(43, 43)),
    as_parquet(51, 53),
]


def test_every_format_ends_as_the_same_rows_in_silver_and_postgresql(office: Office) -> None:
    jobs = [office.enter(content) for content in FORMATS]
    assert office.work() == len(FORMATS)
    assert [office.counts(job) for job in jobs] == [("COMPLETED", 3, 3, 0, 3, 0, 0)] * len(FORMATS)
    wanted = {content_hash(plain(10 * group + row)): 1 for group in range(6) for row in (1, 2, 3)}
    assert office.hashes() == wanted
    silver = office.table("silver.uploaded_rows")
    assert {row["content_hash"]: json.loads(row["data"]) for row in silver} == {
        content_hash(plain(10 * group + row)): plain(10 * group + row)
        for group in range(6)
        for row in (1, 2, 3)
    }
    zip_places = [
        (row["source_partition"], row["source_offset"])
        for row in silver
        if row["job_id"] == str(jobs[4]) and row["tenant_id"] == "acme"
    ]
    assert sorted(zip_places) == [(0, 2), (0, 3), (1, 2)]
    assert office.table("ops.dead_letters") == []
    assert office.left() == []


def test_invalid_rows_are_errors_and_dead_letters_with_all_their_reasons(office: Office) -> None:
    worst = contact(901, email="nobody", balance="x", first_name="Zo\xeb")
    job = office.enter(contacts(1, 30, NOBODY, worst, "902,a@b.cd\n"))
    office.work()
    assert office.counts(job) == ("COMPLETED_WITH_ERRORS", 33, 30, 3, 30, 0, 0)
    assert office.errors(job) == [
        (32, "email", "rule:format"),
        (33, "email", "rule:format"),
        (33, "balance", "type_mismatch"),
        (34, None, "too_few_fields"),
    ]
    letters = {row["source_offset"]: row for row in office.table("ops.dead_letters")}
    assert sorted(letters) == [32, 33, 34]
    assert {(row["stream"], row["stage"], row["source_topic"]) for row in letters.values()} == {
        ("uploads", "validate", f"upload/{job}")
    }
    assert [reason["code"] for reason in letters[33]["reasons"]] == ["rule:format", "type_mismatch"]
    assert letters[33]["payload"].decode() == worst.rstrip("\n")
    assert "nobody" not in str(office.log), "a log line holds no value"
    place = f"validate/upload/{job}/0/33"
    assert letters[33]["dead_letter_id"] == hashlib.sha256(place.encode()).hexdigest()


def test_the_same_rows_again_are_counted_once_for_each_job_and_a_repeated_row_is_unchanged(
    office: Office,
) -> None:
    first, second = office.enter(contacts(1, 3)), office.enter(contacts(2, 4, contact(2)))
    office.work()
    assert office.counts(first) == ("COMPLETED", 3, 3, 0, 3, 0, 0)
    assert office.counts(second) == ("COMPLETED", 4, 4, 0, 1, 2, 1)
    assert office.hashes() == {content_hash(plain(n)): seen for n, seen in ((1, 1), (2, 2), (3, 2), (4, 1))}


def test_a_file_without_a_contract_is_judged_by_the_settings_share(office: Office) -> None:
    office.settings = office.with_uploads(max_invalid_share=0.25)
    few, many = b"a,b\n1,2\n3,4\n5,6\n7\n", b"a,b\n1,2\n3,4\n5\n7\n"
    kept, refused = office.enter(few, "anything"), office.enter(many, "anything")
    office.work()
    assert office.counts(kept)[:4] == ("COMPLETED_WITH_ERRORS", 4, 3, 1)
    assert office.job(refused, "status", "error") == ("FAILED", "too_many_invalid")


@pytest.mark.parametrize(
    ("content", "dataset", "options", "error"),
    [
        (contacts(1, 8, NOBODY), "contacts", {}, "too_many_invalid"),
        (b"contact_id\n1\n", "contacts", {}, "missing_column"),
        (gzip.compress(contacts(1, 9))[:-9], "contacts", {}, "damaged"),
        (contacts(1, 2), "contacts", {"delimiter": '"'}, "unfit_options"),
    ],
)
def test_a_bad_file_fails_at_once_with_its_code_and_touches_nothing(
    office: Office, content: bytes, dataset: str, options: dict[str, str], error: str
) -> None:
    job = office.enter(content, dataset, **options)
    office.work()
    assert office.job(job, "status", "error", "attempts") == ("FAILED", error, 1)
    assert office.hashes() == {}
    assert office.table("silver.uploaded_rows") == []
    assert bool(office.errors(job)) is (error == "too_many_invalid")
    (letter,) = office.table("ops.dead_letters")
    assert (letter["stage"], letter["event_id"], letter["reasons"][0]["code"]) == ("import", str(job), error)
    assert len(office.left()) == 1, "the file is kept, and nothing else"
    assert office.work() == 0
    assert len(office.table("ops.dead_letters")) == 1
