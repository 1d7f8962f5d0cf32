"""The page without scripts: files by its form, refusals with their remedy, history, refused rows, an end."""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from headwater.settings import Settings
from sources.import_errors import RowError, write_errors
from sources.import_jobs import Counts
from tests.integration.api_server import free_port
from tests.integration.uploads.conftest import Worker
from tests.integration.uploads.harness import ROWS, UploadApi, ask, new_job, upload_api
from tests.integration.uploads.page_harness import FIELD, Browser, browsing, text_of

JOB = "/uploads/jobs/"


@pytest.fixture
def browser(api: UploadApi, settings: Settings) -> Iterator[Browser]:
    """Signed in; may send, look and cancel."""
    with browsing(api, api.key) as made:
        yield made


def entered(api: UploadApi, worker: Worker, **changes: str) -> str:
    new = new_job(tenant_id=api.tenant, **changes)
    worker().enter(new)
    return f"{JOB}{new.id}"


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    shown = text_of(answer)
    assert not [word for word in words if word not in shown], shown


def test_a_file_that_the_form_sends_is_kept_whole_and_its_job_waits(
    browser: Browser, api: UploadApi, database: str
) -> None:
    answer = browser.send(ROWS, "people 2026.csv", delimiter=";", header="true")
    assert answer.status_code == 303
    [(job_id, tenant, *kept)] = ask(
        database,
        "SELECT id, tenant_id, dataset, file_label, options, status, storage_key FROM ingestion_jobs",
    )
    assert answer.headers["location"] == f"{JOB}{job_id}"
    assert tenant == api.tenant
    assert kept[:4] == ["contacts", "people 2026.csv", {"delimiter": ";", "header": True}, "PENDING"]
    assert (api.folder / "uploads" / kept[4]).read_bytes() == ROWS
    assert "people 2026.csv Waiting" in text_of(browser.get(f"{JOB}{job_id}"))


def test_a_large_file_streams_through_the_form_as_it_is(
    browser: Browser, api: UploadApi, database: str, settings: Settings
) -> None:
    content = b"".join(b"%09d,some text that makes up a row\n" % n for n in range(600_000))  # three parts
    assert len(content) > 2 * settings.uploads.part_bytes
    assert browser.send(content, other="rows", dataset="").status_code == 303
    [(key, size)] = ask(database, "SELECT storage_key, bytes FROM ingestion_jobs")
    assert size == len(content)
    assert (api.folder / "uploads" / key).read_bytes() == content


def test_the_same_file_leads_to_the_import_that_it_had_unless_it_is_forced(
    browser: Browser, worker: Worker, database: str
) -> None:
    first = browser.send().headers["location"]
    queue = worker()
    claim = queue.claim()
    assert claim
    queue.finish(claim, "COMPLETED", Counts(2, 2, 0, 2, 0, 0), {})
    again = browser.send().headers["location"]
    assert again == f"{first}?known=true"
    assert "were imported before" in text_of(browser.get(again))
    assert browser.send(force="true").headers["location"] not in (first, again)
    assert ask(database, "SELECT count(*) FROM ingestion_jobs") == [(2,)]


def test_a_script_that_asks_for_json_gets_the_same_answers(browser: Browser) -> None:
    json_please = {"Accept": "application/json"}
    data = {FIELD: browser.token(), "dataset": "contacts"}
    good = browser.http.post("/uploads", data=data, files={"file": ("a.csv", ROWS)}, headers=json_please)
    assert (good.status_code, good.json()["known"]) == (202, False)
    assert browser.get(good.json()["place"]).status_code == 200
    bad = browser.http.post(
        "/uploads", data=data, files={"file": ("a.exe", b"MZ\x90\x00" * 9)}, headers=json_please
    )
    assert (bad.status_code, bad.json()["code"]) == (415, "unsupported_type")
    assert bad.json()["remedy"].startswith("Send CSV")


@pytest.mark.parametrize(
    ("content", "fields", "status", "words"),
    [
        (b"", {}, 400, ("The file is empty",)),
        (b"MZ\x90\x00" * 9, {}, 415, ("no file that is read here", "Spreadsheets: save them as CSV first")),
        (b"\x1f\x8b\x08" + b"garbage" * 9, {}, 422, ("The archive cannot be taken",)),
        (ROWS, {"dataset": ""}, 422, ("dataset is to be chosen from the list or named",)),
        (ROWS, {"other": "people"}, 422, ("one of the two",)),
        (ROWS, {"dataset": "", "other": "People & <b>"}, 422, ("is not a data set's name",)),
        (ROWS, {"encoding": "base64"}, 422, ("is not an encoding that is read",)),
        (ROWS, {"forse": "true"}, 422, ("a query parameter is not known",)),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_with_its_remedy_and_not_kept(
    browser: Browser,
    api: UploadApi,
    content: bytes,
    fields: dict[str, str],
    status: int,
    words: tuple[str, ...],
) -> None:
    before = api.landed
    refused(browser.send(content, **fields), status, *words)
    assert api.landed == before


def test_a_form_without_a_file_says_so(browser: Browser) -> None:
    parts = [(FIELD, (None, browser.token())), ("dataset", (None, "contacts")), ("file", ("", b""))]
    refused(browser.http.post("/uploads", files=parts), 422, "No file was chosen", "Choose a file")


def test_a_body_that_is_no_form_is_refused(browser: Browser) -> None:
    refused(browser.http.post("/uploads", content=ROWS), 400, "The form cannot be read")


def test_a_file_that_is_too_large_is_refused_with_the_limit(settings: Settings, tmp_path: Path) -> None:
    with (
        upload_api(tmp_path, settings, HEADWATER_UPLOADS__MAX_BYTES="2048") as api,
        browsing(api, api.key) as browser,
    ):
        refused(browser.send(b"a,b\n" * 600), 413, "The file is too large", "A file may have 2 kB")
        assert browser.send(b"a,b\n" * 500).status_code == 303


def test_too_many_requests_are_told_when_to_come_again(settings: Settings, tmp_path: Path) -> None:
    slow = {"HEADWATER_API__RATE_PER_SECOND": "1", "HEADWATER_API__RATE_BURST": "3"}
    with upload_api(tmp_path, settings, **slow) as api, browsing(api, api.key) as browser:
        with ThreadPoolExecutor(12) as crowd:
            answers = list(crowd.map(browser.get, ["/uploads"] * 12))
        late = next(answer for answer in answers if answer.status_code != 200)
        refused(late, 429, "Too many requests with this key", f"Wait {late.headers['retry-after']} s")


def test_while_postgresql_is_away_the_page_says_so_and_keeps_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    nowhere = {"HEADWATER_POSTGRES__API_DSN": f"postgresql://headwater_api@127.0.0.1:{free_port()}/none"}
    with upload_api(tmp_path, settings, **nowhere) as api, browsing(api, api.key) as browser:
        refused(browser.get(), 503, "PostgreSQL cannot be reached", "Try again in a moment")
        with browsing(api, api.key) as sender:
            token = sign_out_token(sender)
            refused(sender.send(token=token), 503, "PostgreSQL cannot be reached")
        assert api.landed == []


def sign_out_token(browser: Browser) -> str:
    """The token of the form that every page of somebody who is signed in has."""
    return browser.token(f"{JOB}none")


def test_while_kafka_is_away_files_are_taken_all_the_same(settings: Settings, tmp_path: Path) -> None:
    nowhere = {"HEADWATER_KAFKA__BOOTSTRAP": f"127.0.0.1:{free_port()}"}
    with upload_api(tmp_path, settings, **nowhere) as api, browsing(api, api.key) as browser:
        place = browser.send().headers["location"]
        assert "waits for a worker" in text_of(browser.get(place))


def test_while_redis_is_away_nobody_signs_in_and_the_page_says_why(
    settings: Settings, tmp_path: Path
) -> None:
    nowhere = {"HEADWATER_REDIS__URL": f"redis://127.0.0.1:{free_port()}/0"}
    with upload_api(tmp_path, settings, **nowhere) as api, browsing(api) as browser:
        refused(browser.sign_in(api.key), 503, "Redis cannot be reached")
        assert api.upload(ROWS).status_code == 202  # programs need no session


def test_history_is_listed_by_state_and_by_pages(browser: Browser, api: UploadApi, worker: Worker) -> None:
    done = entered(api, worker, file_label="done.csv")
    queue = worker()
    claim = queue.claim()
    assert claim
    queue.finish(claim, "COMPLETED", Counts(2, 2, 0, 2, 0, 0), {})
    for number in range(27):
        entered(api, worker, file_label=f"file {number}.csv")
    first = browser.get()
    assert [f"file {n}.csv" in text_of(first) for n in (26, 2, 1)] == [True, True, False]
    older = first.text.split('">Older</a>')[0].rsplit('href="', 1)[1].replace("&amp;", "&")
    assert "file 1.csv" in text_of(browser.get(older))
    assert "done.csv" in text_of(browser.get(older))
    imported = browser.get("/uploads?status=COMPLETED")
    assert done in imported.text
    assert "file 26.csv" not in text_of(imported)
    assert "No import has failed" in text_of(browser.get("/uploads?status=FAILED"))
    refused(browser.get("/uploads?status=done"), 422, "status is not one of")


def test_refused_rows_are_paged_escaped_and_downloaded_as_csv(
    browser: Browser, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    queue = worker()
    claim = queue.claim()
    assert claim
    raw = "=cmd,<script>alert(1)</script>"
    errors = [RowError(n, "email", "rule:format", "is no address", raw) for n in range(2, 122)]
    with queue.holding(claim) as connection:
        write_errors(connection, claim.job.id, errors, 10_000, 2000)
    queue.finish(claim, "COMPLETED_WITH_ERRORS", Counts(200, 80, 120, 80, 0, 0), {})
    lines, place = [], path
    while place:
        page = browser.get(place)
        assert "<script>alert" not in page.text
        lines += [int(part.split("<")[0]) for part in page.text.split('<td class="amount">')[1:]]
        place = (
            page.text.split('">Next rows</a>')[0].rsplit('href="', 1)[1] if "Next rows" in page.text else ""
        )
    assert lines == list(range(2, 122))
    found = browser.get(f"{path}/errors.csv")
    assert found.headers["content-disposition"].startswith("attachment; filename=")
    rows = list(csv.reader(io.StringIO(found.text, newline="")))
    assert rows[1:] == [[str(n), "email", "rule:format", "is no address", f"'{raw}"] for n in range(2, 122)]


def test_a_waiting_import_is_cancelled_and_one_that_has_ended_says_so(
    browser: Browser, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    answer = browser.post(f"{path}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert "Cancelled" in text_of(browser.get(path))
    other = entered(api, worker)
    queue = worker()
    claim = queue.claim()
    assert claim
    queue.finish(claim, "COMPLETED", Counts(), {})
    refused(browser.post(f"{other}/cancel"), 409, "This import has ended already")


def test_who_follows_a_link_to_an_import_is_led_there_after_signing_in(
    api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    with browsing(api) as browser:
        page = browser.get(path)
        refused(page, 401, "You are signed out")
        assert f'name="after" value="{path}"' in page.text
        assert browser.sign_in(api.key, after=path).headers["location"] == path


@pytest.mark.parametrize(
    "after", ["https://evil.example", "//evil.example", "/uploads/jobs/../..", "/jobs", "\\\\evil"]
)
def test_signing_in_leads_nowhere_else(api: UploadApi, after: str) -> None:
    with browsing(api) as browser:
        assert browser.sign_in(api.key, after=after).headers["location"] == "/uploads"


def test_a_file_of_somebody_who_is_signed_out_is_not_kept_and_they_are_told(api: UploadApi) -> None:
    before = api.landed
    with browsing(api) as browser:
        refused(browser.send(b"a,b\n" * 500_000), 401, "You are signed out", "Sign in and try again")
    assert api.landed == before
