"""/jobs as its callers meet it: looked up, listed, followed, cancelled, and only by those they belong to."""

import csv
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from api.services import MAX_WATCHERS_EACH
from headwater.settings import Settings
from local.postgres import dsn
from sources.import_errors import RowError, write_errors
from sources.import_jobs import COMPLETED_WITH_ERRORS, Counts
from sources.import_queue import Beat, Claim
from tests.integration.api_server import STOP_S
from tests.integration.broker import eventually
from tests.integration.uploads.conftest import Worker
from tests.integration.uploads.harness import UploadApi, ask, new_job, upload_api

NOWHERE = "/jobs/00000000-0000-4000-8000-000000000001"
FIELDS = {
    "job_id", "status", "dataset", "file", "format", "options", "attempts", "rows_read", "rows_valid",
    "rows_invalid", "rows_inserted", "rows_updated", "rows_unchanged", "bytes", "sha256", "error", "timings",
    "cancel_requested", "created_at", "started_at", "finished_at",
}  # fmt: skip
HALF = Counts(rows_read=10, rows_valid=9, rows_invalid=1)
WHOLE = Counts(20, 18, 2, 17, 1, 0)


@pytest.fixture
def client(api: UploadApi, settings: Settings) -> Iterator[httpx.Client]:
    """May upload, look and cancel."""
    with api.client() as made:
        yield made


@pytest.fixture
def stranger(api: UploadApi) -> Iterator[httpx.Client]:
    """Another tenant, with every scope."""
    with api.client(**{"X-API-Key": api.stranger_key}) as made:
        yield made


def entered(api: UploadApi, worker: Worker, **changes: Any) -> str:
    """The path of a job of the API's tenant."""
    new = new_job(tenant_id=api.tenant, **changes)
    worker().enter(new)
    return f"/jobs/{new.id}"


def claimed(worker: Worker) -> Claim:
    claim = worker().claim()
    assert claim
    return claim


def refuse(worker: Worker, claim: Claim, *errors: RowError) -> None:
    with worker().holding(claim) as connection:
        write_errors(connection, claim.job.id, errors, 10_000, 2000)


def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


@contextmanager
def events(client: httpx.Client, path: str) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """Names and data of a stream's events, as they come."""
    with client.stream("GET", f"{path}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")

        def parsed() -> Iterator[tuple[str, dict[str, Any]]]:
            name = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

        yield parsed()


def test_a_job_shows_all_there_is_to_know_but_where_its_file_lies(
    client: httpx.Client, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    claim = claimed(worker)
    worker().finish(claim, COMPLETED_WITH_ERRORS, WHOLE, {"parse": 1.5, "upsert": 0.25})
    found = client.get(path).json()
    assert found.keys() == FIELDS
    assert (found["status"], found["attempts"], found["file"]) == ("COMPLETED_WITH_ERRORS", 1, "people.csv")
    assert {name: found[name] for name in vars(WHOLE)} == vars(WHOLE)
    assert found["timings"] == {"parse": 1.5, "upsert": 0.25}
    assert found["created_at"] <= found["started_at"] <= found["finished_at"]
    assert claim.job.storage_key not in client.get(path).text


def test_another_tenants_job_is_not_there(
    client: httpx.Client, stranger: httpx.Client, api: UploadApi, worker: Worker, database: str
) -> None:
    path = entered(api, worker)
    for way in (path, f"{path}/errors", f"{path}/errors?format=csv", f"{path}/events"):
        refused(stranger.get(way), 404, "not_found")
        assert client.get(way.replace("/events", "")).status_code == 200
    refused(stranger.post(f"{path}/cancel"), 404, "not_found")
    assert stranger.get("/jobs").json() == {"jobs": [], "next_cursor": None}
    assert ask(database, "SELECT status, cancel_requested FROM ingestion_jobs") == [("PENDING", False)]


@pytest.mark.parametrize("path", [NOWHERE, "/jobs/1", "/jobs/x'--", "/jobs/%00", NOWHERE + "0"])
def test_what_is_no_job_is_not_found(client: httpx.Client, path: str) -> None:
    refused(client.get(path), 404, "not_found")
    refused(client.get(f"{path}/errors"), 404, "not_found")
    refused(client.get(f"{path}/events"), 404, "not_found")
    refused(client.post(f"{path}/cancel"), 404, "not_found")


def test_scopes_are_asked_for(api: UploadApi, settings: Settings) -> None:
    with api.client(**{"X-API-Key": api.watcher_key}) as watcher:
        assert watcher.get("/jobs").status_code == 200
        refused(watcher.post(f"{NOWHERE}/cancel"), 403, "forbidden")
    for method, path in (("GET", "/jobs"), ("GET", NOWHERE), ("POST", f"{NOWHERE}/cancel")):
        refused(httpx.request(method, api.url + path), 401, "unauthorized")
    for way in ("errors", "events"):
        refused(httpx.get(f"{api.url}{NOWHERE}/{way}"), 401, "unauthorized")


def test_jobs_are_listed_newest_first_by_pages_that_neither_repeat_nor_leave_out(
    client: httpx.Client, api: UploadApi, worker: Worker, database: str
) -> None:
    paths = [entered(api, worker) for _ in range(7)]
    ask(database, "UPDATE ingestion_jobs SET created_at = '2026-03-01 12:00:00.123456+00' WHERE bytes > 0")
    seen, cursor = [], {}
    while True:
        page = client.get("/jobs", params={"limit": 3} | cursor).json()
        seen.append([f"/jobs/{job['job_id']}" for job in page["jobs"]])
        if not page["next_cursor"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [len(page) for page in seen] == [3, 3, 1]
    assert [path for page in seen for path in page] == sorted(paths, reverse=True)


def test_jobs_that_come_while_one_pages_do_not_shift_the_pages(
    client: httpx.Client, api: UploadApi, worker: Worker
) -> None:
    old = [entered(api, worker) for _ in range(4)]
    first = client.get("/jobs?limit=2").json()
    entered(api, worker)
    second = client.get("/jobs", params={"cursor": first["next_cursor"], "limit": 9}).json()
    found = [f"/jobs/{job['job_id']}" for page in (first, second) for job in page["jobs"]]
    assert found == old[::-1]


def test_jobs_are_listed_by_their_status(client: httpx.Client, api: UploadApi, worker: Worker) -> None:
    done, waiting = entered(api, worker), entered(api, worker)
    worker().finish(claimed(worker), "COMPLETED", WHOLE, {})
    for status, path in (("COMPLETED", done), ("PENDING", waiting)):
        found = client.get("/jobs", params={"status": status}).json()["jobs"]
        assert [f"/jobs/{job['job_id']}" for job in found] == [path]
    assert client.get("/jobs?status=FAILED").json()["jobs"] == []


@pytest.mark.parametrize(
    "query",
    [
        "status=done",
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "cursor=1",
        "offset=3",
        "limit=1&limit=2",
    ],
)
def test_a_wrong_parameter_is_refused(client: httpx.Client, query: str) -> None:
    refused(client.get(f"/jobs?{query}"), 422, "invalid_parameter")


def test_refused_rows_come_in_the_order_of_the_file_by_pages(
    client: httpx.Client, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    errors = [RowError(n, "email", "rule:format", "is no address", f"{n},x") for n in range(2, 7)]
    refuse(worker, claimed(worker), *errors)
    first = client.get(f"{path}/errors?limit=3").json()
    second = client.get(f"{path}/errors", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [error["line"] for page in (first, second) for error in page["errors"]] == [2, 3, 4, 5, 6]
    assert second["next_cursor"] is None
    assert first["errors"][0] == {
        "line": 2, "column": "email", "code": "rule:format", "message": "is no address", "raw_row": "2,x"
    }  # fmt: skip


@pytest.mark.parametrize(("query", "accept"), [("?format=csv", "*/*"), ("", "text/csv")])
def test_refused_rows_as_csv_are_all_there_and_no_cell_is_a_formula(
    client: httpx.Client, api: UploadApi, worker: Worker, query: str, accept: str
) -> None:
    path = entered(api, worker)
    raw = '=HYPERLINK("http://evil")'
    errors = [RowError(n, "=name", "ragged", "has 3 fields", raw) for n in range(2500)]
    refuse(worker, claimed(worker), *errors)
    answer = client.get(f"{path}/errors{query}", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    found = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert found[0] == ["line", "column", "code", "message", "raw_row"]
    assert found[1:] == [[str(n), "'=name", "ragged", "has 3 fields", f"'{raw}"] for n in range(2500)]


def test_csv_is_cut_to_a_limit(client: httpx.Client, api: UploadApi, worker: Worker) -> None:
    path = entered(api, worker)
    refuse(worker, claimed(worker), *[RowError(n, None, "ragged", "has 3 fields", None) for n in range(5)])
    assert len(client.get(f"{path}/errors?format=csv&limit=2").text.splitlines()) == 3
    asked = client.get(f"{path}/errors?format=json", headers={"Accept": "text/csv"})
    assert asked.headers["content-type"] == "application/json"


def test_a_waiting_job_is_cancelled_at_once_and_no_worker_gets_it(
    client: httpx.Client, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    answer = client.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "CANCELLED")
    assert worker().claim() is None
    assert client.post(f"{path}/cancel").status_code == 200  # again: it is what was wanted


def test_a_running_job_is_asked_to_end(client: httpx.Client, api: UploadApi, worker: Worker) -> None:
    path = entered(api, worker)
    queue, claim = worker(), claimed(worker)
    answer = client.post(f"{path}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "PROCESSING")
    assert answer.json()["cancel_requested"] is True
    assert queue.beat(claim, HALF) is Beat.CANCEL
    assert queue.cancelled(claim, HALF)
    assert client.get(path).json()["status"] == "CANCELLED"


@pytest.mark.parametrize("status", ["COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED"])
def test_a_job_that_has_ended_stays_as_it_is(
    client: httpx.Client, api: UploadApi, worker: Worker, status: str
) -> None:
    path = entered(api, worker)
    worker().finish(claimed(worker), status, WHOLE, {})
    refused(client.post(f"{path}/cancel"), 409, "job_ended")
    assert client.get(path).json()["status"] == status


def test_a_job_is_followed_from_its_start_to_its_end(
    client: httpx.Client, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    queue = worker()
    with events(client, path) as stream:
        assert next(stream)[1]["status"] == "PENDING"
        claim = queue.claim()
        assert claim
        name, seen = next(stream)
        assert (name, seen["status"], seen["rows_read"]) == ("progress", "PROCESSING", 0)
        queue.beat(claim, HALF)
        assert next(stream)[1]["rows_read"] == 10
        queue.finish(claim, "COMPLETED", WHOLE, {})
        name, seen = next(stream)
        assert (name, seen["status"], seen["rows_inserted"]) == ("end", "COMPLETED", 17)
        assert list(stream) == []


def test_those_who_follow_are_bounded_and_make_room_when_they_leave(
    client: httpx.Client, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    streams = [client.stream("GET", f"{path}/events") for _ in range(MAX_WATCHERS_EACH)]
    try:
        assert {stream.__enter__().status_code for stream in streams} == {200}
        refused(client.get(f"{path}/events"), 503, "busy")
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)

    def room() -> bool:
        with client.stream("GET", f"{path}/events") as answer:
            return answer.status_code == 200

    assert eventually(room, "room again")


def test_an_api_that_stops_ends_the_streams_and_does_not_wait_for_the_jobs(
    settings: Settings, worker: Worker, tmp_path: Path
) -> None:
    with upload_api(tmp_path, settings) as server, server.client() as client:
        path = entered(server, worker)
        with events(client, path) as stream:
            next(stream)
            assert server.process
            server.process.terminate()
            assert list(stream) == []
        assert server.process.wait(STOP_S) == 0
        assert "request_failed" not in server.log.read_text()


def test_a_stream_outlives_a_restart_of_postgresqls_connections(
    client: httpx.Client, api: UploadApi, worker: Worker, database: str
) -> None:
    path = entered(api, worker)
    cut = threading.Thread(target=_cut_off_the_api, args=(database,))
    with events(client, path) as stream:
        next(stream)
        cut.start()
        time.sleep(1.5)
        queue = worker()
        claim = queue.claim()
        assert claim
        queue.finish(claim, "COMPLETED", WHOLE, {})
        assert [name for name, _ in stream][-1] == "end"
    cut.join()


def _cut_off_the_api(database: str) -> None:
    """As a restart of the server would. The superuser's right; the API makes new connections."""
    with psycopg.connect(dsn("postgres", "postgres-superuser", "postgres"), autocommit=True) as server:
        for _ in range(10):
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND usename = 'headwater_api'",
                (database,),
            )
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("api", "SELECT * FROM ingested_data"),
        ("api", "DELETE FROM ingestion_jobs"),
        ("api", "UPDATE ingestion_jobs SET rows_read = 1"),
        ("api", "UPDATE ingestion_jobs SET tenant_id = 'globex'"),
        ("api", "INSERT INTO validation_errors (job_id, line) SELECT id, 1 FROM ingestion_jobs"),
        ("api", "SELECT * FROM leads"),
        ("writer", "DELETE FROM ingestion_jobs"),
        ("writer", "DELETE FROM ingested_data"),
        ("writer", "UPDATE validation_errors SET line = 2"),
        ("reader", "SELECT * FROM ingestion_jobs"),
        ("reader", "SELECT * FROM validation_errors"),
        ("reader", "SELECT * FROM ingested_data"),
    ],
)
def test_a_role_may_do_what_it_needs_and_nothing_else(database: str, role: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        ask(database, statement, role=role)


def test_analysts_see_jobs_without_names_places_and_hashes(database: str, worker: Worker) -> None:
    worker().enter(new_job())
    names = ask(
        database,
        "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'ingestion_jobs_masked'",
    )
    assert ask(database, "SELECT status FROM ingestion_jobs_masked", role="reader") == [("PENDING",)]
    assert not {"file_label", "storage_key", "sha256", "options", "worker"} & {name for (name,) in names}
