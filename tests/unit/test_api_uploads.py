"""Uploads at the API, without a server: forms, labels, parameters, CSV of errors."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from api import errors_csv
from api.form import MAX_FORM_BYTES, clean_label, file_of
from api.problems import Problem
from api.query import UPLOAD, asked
from api.streaming import Streamed
from headwater.settings import load_settings
from sources.import_queue import backoff

BOUNDARY = "xYzZY"
CELLS = st.text() | st.text("=+-@\t\r\n '\",;a1")
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts: tuple[str, bytes]) -> bytes:
    """A body of these parts: what follows `form-data; ` and the content."""
    held = b""
    for disposition, content in parts:
        head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
        held += head.encode() + content + b"\r\n"
    return held + f"--{BOUNDARY}--\r\n".encode()


def read(body: bytes, cuts: list[int] | None = None, content_type: str = FORM) -> tuple[bytes, str | None]:
    """The file of a body that arrives in pieces of these sizes, and its label."""

    async def arriving() -> AsyncIterator[bytes]:
        at = 0
        for size in cuts or [len(body)]:
            if body[at : at + size]:
                yield body[at : at + size]
            at += size
        if body[at:]:
            yield body[at:]

    async def collected() -> tuple[bytes, str | None]:
        file = file_of(content_type, arriving(), None)
        held = b"".join([chunk async for chunk in file.content()])
        return held, file.label

    return asyncio.run(collected())


def refused(body: bytes, content_type: str = FORM) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        read(body, content_type=content_type)
    return caught.value.status, caught.value.code


def request(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


def faults(query: str) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        asked(request(query), UPLOAD)
    assert (caught.value.status, caught.value.code) == (422, "invalid_parameter")
    return [(fault.field, fault.code) for fault in caught.value.errors]


@given(
    st.one_of(st.binary(max_size=300), st.text("\r\n-xYzZ", max_size=300).map(str.encode)),
    st.lists(st.integers(1, 40), max_size=40),
)
def test_a_forms_file_is_the_same_however_the_body_is_cut(content: bytes, cuts: list[int]) -> None:
    if f"\r\n--{BOUNDARY}".encode() in b"\r\n" + content:
        return
    body = form(('name="csrf"', b"token"), ('name="file"; filename="a.csv"', content), ('name="more"', b"x"))
    assert read(body, cuts) == (content, "a.csv")


def test_a_body_that_is_no_form_is_the_file_whatever_its_type_says() -> None:
    assert read(b"a,b\n", content_type="image/png") == (b"a,b\n", None)
    assert read(b"a,b\n", content_type="") == (b"a,b\n", None)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (form(('name="file"', b"a,b")), (422, "no_file")),
        (form(('name="file"; filename=""', b"")), (422, "no_file")),
        (form(('name="a"; filename="a"', b"1"), ('name="b"; filename="b"', b"2")), (422, "one_file")),
        (form(('name="x"', b"y" * (MAX_FORM_BYTES + 1))), (413, "too_large")),
        (b"preamble" * MAX_FORM_BYTES, (413, "too_large")),
        (form(('name="file"; filename="a"', b"1")) + b"x" * (MAX_FORM_BYTES + 1), (413, "too_large")),
        (form(*[('name="x"', b"y")] * 20), (400, "malformed_form")),
        (form(('name="file"; filename="a"', b"1"))[:-8], (400, "malformed_form")),
        (b"no form at all" * 10, (400, "malformed_form")),
        (form((f'name="file"; filename="{"a" * 9000}"', b"1")), (400, "malformed_form")),
        (b"", (400, "malformed_form")),
    ],
)
def test_a_form_that_is_broken_or_has_not_one_file_is_refused(body: bytes, answer: tuple[int, str]) -> None:
    assert refused(body) == answer


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'x' * 300}", '; boundary="a\tb"'])
def test_a_form_without_a_usable_boundary_is_refused(boundary: str) -> None:
    assert refused(form(), f"multipart/form-data{boundary}") == (400, "malformed_form")


@pytest.mark.parametrize(
    ("given_name", "label"),
    [
        ("people.csv", "people.csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ada\\people.csv", "people.csv"),
        ("a\x00b\r\nc\u202e.csv", "abc.csv"),
        ("  m\u00e4rz 2026.csv ", "m\u00e4rz 2026.csv"),
        ("ma\u0308rz.csv", "m\u00e4rz.csv"),
        ("..", None),
        ("/", None),
        ("", None),
        (None, None),
        ("x" * 300, "x" * 255),
    ],
)
def test_a_label_is_a_name_to_read_and_no_path(given_name: str | None, label: str | None) -> None:
    assert clean_label(given_name, 255) == label


def test_parameters_are_read_by_their_kinds() -> None:
    found = asked(request("dataset=people&force=true&delimiter=%3B&encoding=Latin-1&header=false"), UPLOAD)
    assert found == {
        "dataset": "people", "force": True, "delimiter": ";", "encoding": "iso8859-1", "header": False
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("dataset=People", [("dataset", "rule:parameter")]),
        ("dataset=../etc", [("dataset", "rule:parameter")]),
        ("dataset=a%00", [("dataset", "rule:parameter")]),
        ("dataset=" + "a" * 64, [("dataset", "rule:parameter")]),
        ("dataset=a;DROP%20TABLE%20leads", [("dataset", "rule:parameter")]),
        ("dataset=a&dataset=b", [("dataset", "rule:once")] * 2),
        ("dataset=a&forse=true", [("", "rule:unknown_parameter")]),
        ("force=1", [("force", "rule:parameter")]),
        ("delimiter=ab", [("delimiter", "rule:parameter")]),
        ("delimiter=a", [("delimiter", "rule:parameter")]),
        ("quote=%0A", [("quote", "rule:parameter")]),
        ("encoding=base64", [("encoding", "rule:parameter")]),
        ("encoding=nowhere", [("encoding", "rule:parameter")]),
        ("encoding=..%2F..%2Fx", [("encoding", "rule:parameter")]),
        ("name=" + "x" * 1025, [("name", "rule:parameter")]),
    ],
)
def test_a_parameter_that_is_wrong_is_named_and_not_quoted(query: str, found: list[tuple[str, str]]) -> None:
    assert faults(query) == found


@pytest.mark.parametrize(
    "cell",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff201",
    ],
)
def test_a_cell_that_a_spreadsheet_would_compute_is_text(cell: str) -> None:
    assert errors_csv.harmless(cell) == f"'{cell}"


@given(st.lists(st.tuples(st.integers(1, 9), st.none() | CELLS, CELLS, CELLS, st.none() | CELLS)))
def test_csv_of_errors_reads_back_with_no_cell_that_begins_a_formula(rows: list[tuple[Any, ...]]) -> None:
    errors = [dict(zip(errors_csv.COLUMNS, row, strict=True)) for row in rows]
    text = (errors_csv.heading() + errors_csv.lines(errors)).decode("utf-8", "surrogatepass")
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found[0] == list(errors_csv.COLUMNS)
    assert len(found) == len(rows) + 1
    for row, cells in zip(rows, found[1:], strict=True):
        assert [cell.removeprefix("'") for cell in cells] == [
            "" if value is None else str(value).removeprefix("'") for value in row
        ]
        assert not [
            cell for cell in cells if cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        ]


def received(pieces: list[bytes], seconds_each: float) -> bytes:
    """A body that comes in pieces, each after so many seconds."""
    clock, left = iter(range(1000)), iter(pieces)

    async def receive() -> Message:
        piece = next(left, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def collected() -> bytes:
        found = Request({"type": "http", "headers": []}, receive)
        body = Streamed(found, load_settings("staging").uploads, lambda: next(clock) * seconds_each)
        return b"".join([chunk async for chunk in body.chunks()])

    return asyncio.run(collected())


def test_a_body_that_trickles_is_cut_off_once_it_had_time_to_begin() -> None:
    least = load_settings("staging").uploads.min_bytes_per_s
    enough, few = [b"x" * (least * 5)] * 20, [b"x" * (least * 5 - 1)] * 20
    assert received(enough, 5) == b"".join(enough)
    assert received(few[:3], 5) == b"".join(few[:3])  # within the time of grace
    with pytest.raises(Problem) as caught:
        received(few, 5)
    assert (caught.value.status, caught.value.code) == (408, "body_timeout")


def test_pauses_between_attempts_double_up_to_a_limit() -> None:
    uploads = load_settings("staging").uploads
    assert [backoff(uploads, tries) for tries in (1, 2, 3)] == [timedelta(seconds=s) for s in (5, 10, 20)]
    assert backoff(uploads, 1000) == timedelta(seconds=uploads.max_backoff_s)
