"""The page without a server: what its forms ask for, what it says, and that no text is taken for HTML."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.page.forgery import form_token
from api.page.form import wanted_of
from api.page.render import render
from api.page.sessions import Session, parse_session
from api.page.visit import Visitor
from api.page.words import Failure, failure_of, refusal_of, size_text
from api.problems import Fault, Problem
from api.security import Principal
from headwater.settings import load_settings
from sources.import_jobs import STATUSES, Job

MOMENT = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
TOKEN = "A" * 43
TEXTS = st.text() | st.sampled_from(
    ["<script>alert(1)</script>", '" onload="x', "'><img src=x>", "{{ 7 * 7 }}", "</td>"]
)


def visitor(*scopes: str) -> Visitor:
    principal = Principal("key:k1", "acme", frozenset(scopes or ("upload:write", "jobs:read")), "key:k1")
    return Visitor(principal, Session("k1", 1_900_000_000, TOKEN))


def job(**changes: Any) -> Job:
    base: dict[str, Any] = {
        "id": UUID(int=1), "tenant_id": "acme", "dataset": "contacts", "status": "PENDING", "attempts": 0,
        "released": 0, "storage_key": "secret/place", "file_label": "people.csv", "format": "csv",
        "options": {}, "bytes": 1, "sha256": "0" * 64, "rows_read": 0, "rows_valid": 0, "rows_invalid": 0,
        "rows_inserted": 0, "rows_updated": 0, "rows_unchanged": 0, "error": None, "timings": {},
        "cancel_requested": False, "appending_at": None, "created_at": MOMENT, "started_at": None,
        "finished_at": None,
    }  # fmt: skip
    return Job(**(base | changes))


def job_page(shown: Job, rows: list[dict[str, Any]] | None = None, **more: Any) -> str:
    values = {"rows": rows or [], "following": None, "after": 0, "kept": 10_000, "known": False} | more
    return bytes(render("job.html", visitor(), job=shown, **values).body).decode()


class Tags(HTMLParser):
    """The names of a page's tags and of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names += [tag, *(f"{tag}.{name}" for name, _ in attrs)]

    def handle_data(self, data: str) -> None:
        self.words += data


def row(text: str) -> dict[str, Any]:
    return {"line": 2, "column": text, "code": text, "message": text, "raw_row": text}


@given(TEXTS.filter(str.strip))
@settings(max_examples=40)
def test_names_codes_messages_and_rows_are_text_and_nothing_else(text: str) -> None:
    plain = Tags(job_page(job(file_label="a", status="FAILED", error="b", rows_invalid=1), [row("c")]))
    found = Tags(job_page(job(file_label=text, status="FAILED", error=text, rows_invalid=1), [row(text)]))
    assert found.names == plain.names


def test_a_page_shows_a_file_name_as_it_is() -> None:
    name = 'a <b>name</b> & "more" {{ 1 }}.csv'
    assert name in Tags(job_page(job(file_label=name))).words
    assert "secret/place" not in job_page(job())


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("error", [None, "worker_lost", "missing_column", "no_such_code"])
def test_every_state_has_a_page(status: str, error: str | None) -> None:
    page = job_page(job(status=status, error=error, options={"delimiter": "\t", "header": True}))
    assert ("data-events" in page) == (status in ("PENDING", "PROCESSING"))
    assert ("/cancel" in page) == (status in ("PENDING", "PROCESSING"))


def test_a_job_that_is_asked_to_end_is_not_asked_again() -> None:
    assert "/cancel" not in job_page(job(status="PROCESSING", cancel_requested=True))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ([("dataset", "contacts"), ("other", "")], {"dataset": "contacts"}),
        ([("dataset", ""), ("other", " people ")], {"dataset": "people"}),
        ([("csrf", "x"), ("dataset", "contacts"), ("header", "")], {"dataset": "contacts"}),
        (
            [("dataset", "orders"), ("delimiter", "\t"), ("header", "true"), ("encoding", "cp1252"),
             ("force", "true")],
            {"dataset": "orders", "delimiter": "\t", "header": True, "encoding": "cp1252", "force": True},
        ),
    ],
)  # fmt: skip
def test_a_form_asks_for_what_its_fields_say(fields: list[tuple[str, str]], wanted: dict[str, Any]) -> None:
    assert wanted_of(fields) == wanted


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("dataset", ""), ("other", " ")],
        [("dataset", "contacts"), ("other", "people")],
        [("dataset", "contacts"), ("dataset", "orders")],
        [("other", "People")],
        [("other", "a" * 64)],
        [("dataset", "contacts"), ("delimiter", "ab")],
        [("dataset", "contacts"), ("header", "true"), ("header", "false")],
        [("dataset", "contacts"), ("unknown", "x")],
    ],
)
def test_a_form_that_is_wrong_is_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(Problem) as caught:
        wanted_of(fields)
    assert (caught.value.status, caught.value.code) == (422, "invalid_parameter")


@given(st.from_regex(r"[A-Za-z0-9.-]{1,64}", fullmatch=True), st.integers(10**9, 10**10 - 1))
def test_a_session_reads_back_from_its_cookie(key_id: str, ends_at: int) -> None:
    session = Session(key_id, ends_at, TOKEN)
    assert parse_session(session.text()) == session
    assert re.fullmatch(r"[!#-+\--:<-\[\]-~]*", session.text())  # what a cookie may hold


@given(st.text(max_size=200))
def test_other_text_is_no_session(text: str) -> None:
    assert parse_session(text) is None


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_sessions_have_two_form_tokens(one: str, other: str) -> None:
    assert (form_token(one) == form_token(other)) == (one == other)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1 byte"), (0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 kB"), (1536, "1.5 kB"),
        (10 << 20, "10 MB"), (10737418240, "10 GB"), (5_300_000_000, "4.9 GB"), (1 << 50, "1024 TB"),
    ],
)  # fmt: skip
def test_sizes_are_written_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Problem(429, "rate_limited", headers={"Retry-After": "7"}), "Wait 7 s"),
        (Problem(413, "too_large"), "may have 10 GB"),
        (Problem(415, "unsupported_type"), "Send CSV, JSON, NDJSON, Parquet"),
        (Problem(503, "postgres_unavailable", headers={"Retry-After": "5"}), "PostgreSQL cannot be reached"),
        (Problem(503, "kafka_unavailable", headers={"Retry-After": "5"}), "Kafka cannot be reached"),
        (Problem(503, "sessions_unavailable", headers={"Retry-After": "5"}), "Redis cannot be reached"),
        (Problem(401, "unauthorized"), "Check that all of it was copied"),
        (Problem(418, "never_heard_of"), "tell the operator"),
        (Problem(422, "archive_refused", (Fault("", "x", "holds a link"),)), "holds a link"),
    ],
)
def test_a_refusal_says_what_happened_and_what_helps(problem: Problem, words: str) -> None:
    found = refusal_of(problem, load_settings("staging"))
    assert words in " ".join((found.title, found.remedy, *found.details))
    assert found.remedy


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        ("empty_file", "The file has no content.", "Mend the file and send it again."),
        ("nested_archive", "The archive holds another archive.", "Mend the file and send it again."),
        ("unavailable", "Storage, PostgreSQL or the lake did not answer.", "Send it again later."),
        ("no_such_code", "", "Tell the operator this code if it stays so."),
    ],
)
def test_a_failed_import_says_why_and_what_helps(code: str, cause: str, remedy: str) -> None:
    assert failure_of(code) == Failure(cause, remedy)
    failed, again = job_page(job(status="FAILED", error=code)), job_page(job(error=code))
    assert (cause in failed, remedy in failed) == (True, True)
    assert (cause in again, remedy in again) == (True, False)
