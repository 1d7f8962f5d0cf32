"""Uploads under suspicion: false types, bombs, names that climb, other tenants, slow and endless bodies."""

import gzip
import io
import stat
import time
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from headwater.settings import Settings
from tests.integration.outbox_harness import settings_of
from tests.integration.raw_http import connect, parse, read_all
from tests.integration.uploads.harness import ROWS, UploadApi, ask, upload_api

MAX_BYTES = 6 << 20
CANARY = "Vq8canary"
SQL = "x'; DROP TABLE ingestion_jobs; --"


@pytest.fixture(scope="module")
def small(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UploadApi]:
    """An API with tight limits."""
    limits = {
        "HEADWATER_UPLOADS__MAX_BYTES": str(MAX_BYTES),
        "HEADWATER_UPLOADS__MAX_UNPACKED_BYTES": str(64 << 20),
        "HEADWATER_UPLOADS__MAX_MEMBERS": "3",
        "HEADWATER_UPLOADS__IDLE_TIMEOUT_S": "1",
        "HEADWATER_API__RATE_PER_SECOND": "100000",
        "HEADWATER_API__RATE_BURST": "200000",
    }
    with upload_api(tmp_path_factory.mktemp("small"), settings_of(database), **limits) as server:
        yield server


def refused(api: UploadApi, answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem; nothing is stored, and nothing that was sent is told."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert CANARY not in answer.text + str(answer.headers)
    assert api.landed == []
    return body


def packed(*names: str, content: bytes = ROWS, mode: int = 0) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            entry = zipfile.ZipInfo("placeholder")
            entry.filename, entry.external_attr, entry.create_system = name, mode << 16, 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(entry, content)
    return held.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/cron.d/x",
        "..\\..\\x",
        "/etc/passwd",
        "a\0b",
        "%2e%2e%2fx",
        "\u202egnp.exe",
        "con",
        "x" * 1000,
    ],
)
@pytest.mark.parametrize("way", ["query", "form"])
def test_a_clients_name_never_is_a_path(api: UploadApi, settings: Settings, name: str, way: str) -> None:
    before = {path.parent for path in api.folder.rglob("*")}
    with api.client() as client:
        if way == "form":
            answer = client.post("/upload?dataset=people", files={"file": (name.replace("\0", "0"), ROWS)})
        else:
            answer = client.post("/upload", params={"dataset": "people", "name": name}, content=ROWS)
    assert answer.status_code == 202
    label = ask(settings.postgres.dsn.rsplit("/", 1)[1], "SELECT file_label FROM ingestion_jobs")[0][0]
    assert label
    assert len(label) <= 255
    assert not {"/", "\\", "\0", "\u202e"} & set(label)
    days = {path.parent for path in api.landed}
    assert {path.parent for path in api.folder.rglob("*")} - before <= days | {api.folder / "uploads"}


@pytest.mark.parametrize(
    "dataset", ["../x", "People", SQL, "", "a" * 64, "a\0b", "\u00e4", "a/b", "a%2fb", "a b"]
)
def test_a_data_set_has_a_plain_name(small: UploadApi, dataset: str) -> None:
    body = refused(small, small.upload(ROWS, dataset=dataset), 422, "invalid_parameter")
    assert [(error["field"], error["code"]) for error in body["errors"]] == [("dataset", "rule:parameter")]


def test_a_data_set_must_be_named(small: UploadApi) -> None:
    with small.client() as client:
        refused(small, client.post("/upload", content=ROWS), 422, "invalid_parameter")


@pytest.mark.parametrize(
    "content",
    [
        b"%PDF-1.7 " + b"x" * 100,
        b"\x7fELF" + bytes(100),
        b"<html><script>",
        bytes(1000),
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_data_is_refused_whatever_it_is_called(small: UploadApi, content: bytes) -> None:
    with small.client(**{"Content-Type": "text/csv"}) as client:
        answer = client.post(f"/upload?dataset=people&name={CANARY}.csv", content=content)
    refused(small, answer, 415, "unsupported_type")


def test_an_empty_file_is_refused(small: UploadApi) -> None:
    refused(small, small.upload(b""), 400, "empty")
    with small.client() as client:
        answer = client.post("/upload?dataset=people", files={"file": ("a.csv", b"")})
    refused(small, answer, 400, "empty")


@pytest.mark.parametrize("shape", ["declared", "chunked", "form"])
def test_more_than_the_limit_is_refused_and_not_kept(small: UploadApi, shape: str) -> None:
    content = b"a,b\n" * (MAX_BYTES // 4 + 1)
    with small.client() as client:
        if shape == "form":
            answer = client.post("/upload?dataset=people", files={"file": ("a.csv", content)})
        else:
            body = (
                content * 2
                if shape == "declared"
                else (content[at : at + 65_536] for at in range(0, len(content), 65_536))
            )
            answer = client.post("/upload?dataset=people", content=body)
    refused(small, answer, 413, "too_large")
    assert answer.headers["connection"] == "close"


def test_exactly_the_limit_passes(small: UploadApi, settings: Settings) -> None:
    assert small.upload(b"a,b\n" * (MAX_BYTES // 4)).status_code == 202
    for path in small.landed:
        path.unlink()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (packed("good.csv", "../../evil.csv"), "member_name"),
        (packed("/etc/passwd"), "member_name"),
        (packed("a\\..\\b.csv"), "member_name"),
        (packed(f"{CANARY}/../x.csv"), "member_name"),
        (packed(*"abcd"), "too_many_members"),
        (packed("a.csv", mode=stat.S_IFLNK | 0o777), "member_kind"),
        (packed("a.csv", content=b"0" * (17 << 20)), "ratio"),
        (packed("a.csv")[:-30], "damaged"),
        (gzip.compress(b"0" * (17 << 20)), "ratio"),
        (gzip.compress(gzip.compress(ROWS)), "nested_archive"),
        (gzip.compress(b"\x7fELF" + bytes(64)), "member_type"),
        (gzip.compress(ROWS)[:10] + b"\xff" * 50, "damaged"),
    ],
)
def test_an_archive_that_would_do_harm_is_refused_at_once(
    small: UploadApi, content: bytes, code: str
) -> None:
    body = refused(small, small.upload(content), 422, "archive_refused")
    assert [error["code"] for error in body["errors"]] == [code]


def test_parquet_that_is_cut_off_is_refused(small: UploadApi) -> None:
    refused(small, small.upload(b"PAR1" + bytes(100)), 422, "cut_off")


def test_a_packed_body_is_not_unpacked_by_the_way(small: UploadApi) -> None:
    with small.client(**{"Content-Encoding": "gzip"}) as client:
        answer = client.post("/upload?dataset=people", content=gzip.compress(ROWS))
    refused(small, answer, 415, "unsupported_encoding")


def test_a_credential_needs_the_scope_and_is_asked_before_the_body_is_read(small: UploadApi) -> None:
    with small.client(**{"X-API-Key": small.watcher_key}) as client:
        refused(small, client.post("/upload?dataset=people", content=ROWS), 403, "forbidden")
    with httpx.Client(base_url=small.url) as client:
        refused(small, client.post("/upload?dataset=people", content=ROWS), 401, "unauthorized")


def opened(api: UploadApi, framing: str) -> bytes:
    """The head of an upload whose body is framed so."""
    lines = ["POST /upload?dataset=people HTTP/1.1", "Host: x", "Connection: close", f"X-API-Key: {api.key}"]
    return "\r\n".join([*lines, framing, "", ""]).encode()


def test_a_body_that_stands_still_is_cut_off_and_leaves_nothing(small: UploadApi) -> None:
    with connect(small.port) as line:
        line.sendall(opened(small, "Transfer-Encoding: chunked") + b"%x\r\n%s\r\n" % (len(ROWS), ROWS))
        [answer] = parse(read_all(line))
    assert (answer.status, answer.problem()["code"]) == (408, "body_timeout")
    assert small.landed == []


def test_a_body_may_take_its_time_as_long_as_it_moves(small: UploadApi, settings: Settings) -> None:
    pieces = [b"1,2\n"] * 12
    with connect(small.port) as line:
        line.sendall(opened(small, f"Content-Length: {4 * len(pieces)}"))
        for piece in pieces:
            line.sendall(piece)
            time.sleep(0.2)
        [answer] = parse(read_all(line))
    assert answer.status == 202
    for path in small.landed:
        path.unlink()


def test_sql_in_every_parameter_is_text(small: UploadApi, database: str) -> None:
    for query in ({"status": SQL}, {"cursor": SQL}, {"limit": SQL}, {SQL: "x"}):
        with small.client() as client:
            assert client.get("/jobs", params=query).status_code == 422
    with small.client() as client:
        assert client.get(f"/jobs/{SQL}").status_code == 404
        assert client.post(f"/jobs/{SQL}/cancel").status_code == 404
    assert ask(database, "SELECT to_regclass('ingestion_jobs') IS NOT NULL") == [(True,)]
