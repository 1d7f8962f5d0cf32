"""POST /upload as its clients meet it: a real API process, a real PostgreSQL, files on the disk."""

import gzip
import hashlib
import io
import json
import os
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from headwater.settings import Settings
from sources.import_jobs import COMPLETED, Counts
from tests.integration.api_server import forwarding, free_port
from tests.integration.broker import eventually
from tests.integration.uploads.conftest import Worker
from tests.integration.uploads.harness import ROWS, UploadApi, ask, upload_api

MEGABYTE = 1 << 20
HASH = hashlib.sha256(ROWS).hexdigest()


def job_of(api: UploadApi, answer: httpx.Response) -> dict[str, Any]:
    """The job that an upload was answered with, as it is now."""
    assert (answer.status_code, answer.json()["status"]) == (202, "PENDING"), answer.text
    assert answer.headers["location"] == f"/jobs/{answer.json()['job_id']}"
    with api.client() as client:
        found = client.get(answer.headers["location"])
    assert found.status_code == 200
    return dict(found.json())


def finish(worker: Worker, status: str = COMPLETED) -> None:
    """Do the next job."""
    queue = worker()
    claim = queue.claim()
    assert claim
    assert queue.finish(claim, status, Counts(2, 2, 0, 2, 0, 0), {"parse": 0.5})


def lines(megabytes: int) -> Iterator[bytes]:
    """So much CSV."""
    line = b"".join(b"%09d,some text that makes up a row of a file\n" % n for n in range(20_000))
    block = (line * 2)[:MEGABYTE]
    for _ in range(megabytes):
        yield block


def test_a_file_is_stored_whole_and_its_job_waits(api: UploadApi, settings: Settings) -> None:
    job = job_of(api, api.upload(ROWS, name="people 2026.csv"))
    assert (job["status"], job["bytes"], job["sha256"], job["format"]) == ("PENDING", len(ROWS), HASH, "csv")
    assert (job["dataset"], job["file"], job["attempts"]) == ("people", "people 2026.csv", 0)
    [key] = ask(settings.postgres.dsn.rsplit("/", 1)[1], "SELECT storage_key FROM ingestion_jobs")[0]
    stored = api.folder / "uploads" / key
    assert (stored.read_bytes(), stored.stat().st_mode & 0o777) == (ROWS, 0o600)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'[{"id": 1}]', "json"),
        (b'{"id": 1}\n{"id": 2}\n', "ndjson"),
        ("id;n\u00e4me\n".encode("utf-16"), "csv"),
        (gzip.compress(ROWS), "gzip"),
    ],
)
def test_a_format_is_taken_from_the_bytes_and_not_from_what_the_request_says(
    api: UploadApi, settings: Settings, content: bytes, kind: str
) -> None:
    with api.client(**{"Content-Type": "application/pdf"}) as client:
        answer = client.post("/upload?dataset=people&name=x.exe", content=content)
    assert job_of(api, answer)["format"] == kind


def test_a_form_brings_its_file_and_the_name_that_the_client_gave_it(
    api: UploadApi, settings: Settings
) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.csv", ROWS)
    with api.client() as client:
        answer = client.post(
            "/upload?dataset=people",
            files={"file": ("C:\\fakepath\\people.zip", held.getvalue(), "image/png")},
            data={"csrf": "token"},
        )
    job = job_of(api, answer)
    assert (job["file"], job["format"], job["bytes"]) == ("people.zip", "zip", len(held.getvalue()))
    assert job["sha256"] == hashlib.sha256(held.getvalue()).hexdigest()


def test_how_the_file_is_to_be_read_is_kept_with_the_job(api: UploadApi, settings: Settings) -> None:
    job = job_of(api, api.upload(ROWS, encoding="Windows-1252", delimiter=";", header="false"))
    assert job["options"] == {"encoding": "cp1252", "delimiter": ";", "header": False}


def test_the_same_file_again_is_answered_with_the_job_that_imported_it(
    api: UploadApi, settings: Settings, worker: Worker
) -> None:
    first = job_of(api, api.upload(ROWS))
    waiting = job_of(api, api.upload(ROWS))  # the first has not imported anything yet
    assert waiting["job_id"] != first["job_id"]
    finish(worker)
    before = len(api.landed)
    again = api.upload(ROWS)
    assert (again.status_code, again.json()["job_id"]) == (200, first["job_id"])
    assert (again.json()["status"], again.json()["rows_inserted"]) == ("COMPLETED", 2)
    assert again.headers["location"] == f"/jobs/{first['job_id']}"
    assert len(api.landed) == before
    assert job_of(api, api.upload(ROWS, force="true"))["job_id"] != first["job_id"]


@pytest.mark.parametrize("status", ["COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"])
def test_a_job_that_did_not_end_well_does_not_block_its_file(
    api: UploadApi, settings: Settings, worker: Worker, status: str
) -> None:
    first = job_of(api, api.upload(ROWS))
    finish(worker, status)
    assert job_of(api, api.upload(ROWS))["job_id"] != first["job_id"]


def test_another_tenant_or_data_set_does_not_meet_the_job(
    api: UploadApi, settings: Settings, worker: Worker
) -> None:
    job_of(api, api.upload(ROWS))
    finish(worker)
    assert api.upload(ROWS, dataset="orders").status_code == 202
    with api.client(**{"X-API-Key": api.stranger_key}) as client:
        assert client.post("/upload?dataset=people", content=ROWS).status_code == 202


@pytest.mark.parametrize("shape", ["raw", "form", "chunked"])
def test_a_large_file_passes_in_parts_that_are_never_all_in_memory(
    api: UploadApi, settings: Settings, tmp_path: Path, shape: str
) -> None:
    size = 300
    path = tmp_path / "large.csv"
    with path.open("wb") as out:
        out.writelines(lines(size))
    most = [api.rss_bytes()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            most.append(api.rss_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with api.client() as client, path.open("rb") as content:
        client.timeout = httpx.Timeout(120)
        if shape == "form":
            answer = client.post("/upload?dataset=big", files={"file": ("large.csv", content)})
        else:
            body = lines(size) if shape == "chunked" else content
            answer = client.post("/upload?dataset=big", content=body)
    done.set()
    watcher.join()
    job = job_of(api, answer)
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    assert (job["bytes"], job["sha256"]) == (size * MEGABYTE, digest)
    assert max(most) - most[0] < 64 * MEGABYTE


def test_a_client_that_hangs_up_leaves_nothing(api: UploadApi, settings: Settings) -> None:
    before = len(api.landed)

    def broken() -> Iterator[bytes]:
        yield from lines(25)
        assert eventually(lambda: len(api.landed) == before + 1, "a part on the disk")
        raise ConnectionAbortedError

    with api.client() as client, pytest.raises(ConnectionAbortedError):
        client.post("/upload?dataset=big", content=broken())
    assert eventually(lambda: len(api.landed) == before, "nothing of it")
    assert ask(settings.postgres.dsn.rsplit("/", 1)[1], "SELECT count(*) FROM ingestion_jobs") == [(0,)]


def test_an_api_that_is_killed_in_an_upload_leaves_no_job_and_no_file_under_its_name(
    settings: Settings, tmp_path: Path
) -> None:
    with upload_api(tmp_path, settings) as api:

        def killing() -> Iterator[bytes]:
            yield from lines(25)
            assert eventually(lambda: bool(api.landed), "a part on the disk")
            assert api.process
            api.process.kill()
            yield from lines(25)

        with api.client() as client, pytest.raises(httpx.TransportError):
            client.post("/upload?dataset=big", content=killing())
        assert [path.parent.name for path in api.landed] == ["incoming"]
    assert ask(settings.postgres.dsn.rsplit("/", 1)[1], "SELECT count(*) FROM ingestion_jobs") == [(0,)]


def test_while_postgresql_is_away_uploads_are_503_and_come_back_with_it(
    settings: Settings, tmp_path: Path
) -> None:
    port = free_port()
    address = settings.postgres.api_dsn
    host, _, database = address.rpartition("@")[2].partition("/")
    away = f"{address.rpartition('@')[0]}@127.0.0.1:{port}/{database}"
    job = "/jobs/00000000-0000-4000-8000-000000000001"
    with upload_api(tmp_path, settings, HEADWATER_POSTGRES__API_DSN=away) as api, api.client() as client:
        for answer in (api.upload(ROWS), client.get("/jobs"), client.get(job), client.get(f"{job}/events"),
                       client.get(f"{job}/errors"), client.post(f"{job}/cancel")):  # fmt: skip
            assert (answer.status_code, answer.json()["code"]) == (503, "postgres_unavailable")
            assert answer.headers["retry-after"] == "5"
        assert api.landed == []
        assert client.get("/health").json()["dependencies"]["postgres"]["status"] == "down"
        with forwarding(port, host):
            assert eventually(lambda: api.upload(ROWS).status_code == 202, "taken again")


def test_a_storage_that_is_away_is_503_and_nothing_is_queued(settings: Settings, tmp_path: Path) -> None:
    nowhere = {
        "HEADWATER_UPLOADS__STORAGE": "s3",
        "HEADWATER_UPLOADS__S3__BUCKET": "b",
        "HEADWATER_UPLOADS__S3__ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "HEADWATER_UPLOADS__S3__ACCESS_KEY_ID": "k",
        "HEADWATER_UPLOADS__S3__SECRET_ACCESS_KEY": "s",
    }
    with upload_api(tmp_path, settings, **nowhere) as api:
        answer = api.upload(ROWS)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert ask(settings.postgres.dsn.rsplit("/", 1)[1], "SELECT count(*) FROM ingestion_jobs") == [(0,)]


def test_uploads_at_once_are_bounded_and_the_others_are_told_to_come_back(
    settings: Settings, tmp_path: Path
) -> None:
    held = threading.Event()

    def slow() -> Iterator[bytes]:
        yield ROWS
        held.wait(20)
        yield ROWS

    few = {"HEADWATER_UPLOADS__AT_ONCE": "2", "HEADWATER_UPLOADS__AT_ONCE_EACH": "1"}
    with upload_api(tmp_path, settings, **few) as api:
        answers: list[int] = []

        def send() -> None:
            with api.client() as client:
                answers.append(client.post("/upload?dataset=people", content=slow()).status_code)

        first = threading.Thread(target=send)
        first.start()
        assert eventually(lambda: _connections(api) > 0, "the first is under way")
        assert eventually(lambda: api.upload(ROWS).status_code == 503, "no second of the same caller")
        busy = api.upload(ROWS)
        assert (busy.json()["code"], busy.headers["retry-after"]) == ("busy", "1")
        held.set()
        first.join()
        assert answers == [202]
        assert api.upload(ROWS).status_code == 202


def _connections(api: UploadApi) -> int:
    assert api.process
    return sum(row.status == "ESTABLISHED" for row in psutil.Process(api.process.pid).net_connections("tcp"))


def test_uploads_are_counted_and_logged_without_what_they_hold(settings: Settings, tmp_path: Path) -> None:
    with upload_api(tmp_path, settings) as api:
        job = job_of(api, api.upload(b"email\ncanary.ada@example.com\n", name="canary-name.csv"))
        refused = api.upload(b"", name="canary-name.csv")
        metrics = httpx.get(f"{api.url}/metrics").text
        log = api.logged(refused)
    assert 'ingest_api_uploads_total{outcome="queued"} 1.0' in metrics
    assert 'ingest_api_uploads_total{outcome="refused"} 1.0' in metrics
    assert f"ingest_api_upload_bytes_total {float(job['bytes'])}" in metrics
    routes = {json.loads(line).get("route") for line in log.splitlines() if line.startswith("{")}
    assert {"/upload", "/jobs/{job_id}"} <= routes
    assert "canary" not in log + metrics


def test_an_api_that_stops_ends_an_upload_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    with upload_api(tmp_path, settings, HEADWATER_API__KAFKA_TIMEOUT_S="0.5") as api:

        def endless() -> Iterator[bytes]:
            yield from lines(15)
            assert api.process
            api.process.terminate()
            while api.process.poll() is None:
                yield b"1,2\n"
                time.sleep(0.05)

        with api.client() as client, suppress(httpx.TransportError):
            assert client.post("/upload?dataset=big", content=endless()).status_code >= 500
        assert api.process
        api.process.wait(20)
        assert api.landed == []
    assert ask(settings.postgres.dsn.rsplit("/", 1)[1], "SELECT count(*) FROM ingestion_jobs") == [(0,)]


def test_the_storage_folder_must_be_usable_at_the_start(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    place = {"HEADWATER_UPLOADS__FOLDER": os.fspath(tmp_path / "file" / "uploads")}
    with pytest.raises(AssertionError, match=r"uploads\.folder"), upload_api(tmp_path, settings, **place):
        raise AssertionError("it must not start")
