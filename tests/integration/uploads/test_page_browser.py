"""The page in a real browser: by keyboard, by a file let go over it, live, in any light and width."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from headwater.settings import Settings
from sources.import_errors import RowError, write_errors
from sources.import_jobs import Counts
from sources.import_queue import Beat
from tests.integration.uploads.conftest import Worker
from tests.integration.uploads.harness import UploadApi, ask, new_job
from tests.integration.uploads.page_browser import PHONE, WAIT_MS, Watch, chromium, people, watching

ROWS = "contact_id,email\n1,ada@example.com\n"
EVIL = "<img src=x onerror=alert(1)>.csv"
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture
def watch(browser: Browser, api: UploadApi, settings: Settings) -> Iterator[Watch]:
    """A window, signed in with every scope."""
    with watching(browser, api.url) as made:
        made.sign_in(api.key)
        yield made


def entered(api: UploadApi, worker: Worker, **changes: str) -> str:
    new = new_job(tenant_id=api.tenant, **changes)
    worker().enter(new)
    return f"/uploads/jobs/{new.id}"


def finish(worker: Worker, status: str, counts: Counts, error: str | None = None, refused: int = 0) -> None:
    """Do the next job as a worker would."""
    queue = worker()
    claim = queue.claim()
    assert claim
    if refused:
        errors = [RowError(n, "email", "rule:format", "is no address", f"{n},{EVIL}") for n in range(refused)]
        with queue.holding(claim) as connection:
            write_errors(connection, claim.job.id, errors, 10_000, 2000)
    queue.finish(claim, status, counts, {}, error)


def everything(api: UploadApi, worker: Worker) -> list[str]:
    """A job in each state; their pages."""
    paths = [entered(api, worker, file_label=EVIL) for _ in range(5)]
    finish(worker, "COMPLETED", Counts(9, 9, 0, 9, 0, 0))
    finish(worker, "COMPLETED_WITH_ERRORS", Counts(90, 20, 70, 20, 0, 0), refused=70)
    finish(worker, "FAILED", Counts(), "missing_column")
    worker().claim()
    return paths


def state(page: Page) -> str:
    return page.locator("#state").inner_text()


def test_all_of_it_is_done_by_keyboard_alone(
    browser: Browser, api: UploadApi, settings: Settings, tmp_path: Path
) -> None:
    with watching(browser, api.url) as watch:
        page, keys = watch.open(), watch.page.keyboard
        page.on("filechooser", lambda _: None)  # from now on choosers are told, not shown: that takes a while
        expect(page.get_by_label("API key")).to_be_focused()
        keys.type(api.key)
        keys.press("Enter")
        page.get_by_role("button", name="Sign out").wait_for()
        keys.press("Tab")
        expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        keys.press("Enter")
        keys.press("Tab")
        expect(page.get_by_label("Data set")).to_be_focused()
        keys.type("contacts")
        for _ in range(3):
            keys.press("Tab")
        expect(page.get_by_label("Files", exact=True)).to_be_focused()
        with page.expect_file_chooser() as chooser:
            keys.press("Enter")
        chooser.value.set_files(people(tmp_path))
        keys.press("Tab")
        expect(page.get_by_role("button", name="Send")).to_be_focused()
        keys.press("Enter")
        page.get_by_role("heading", name="people.csv").wait_for()
        cancel = page.get_by_role("button", name="Cancel this import")
        _tab_to(page, cancel)
        keys.press("Enter")
        expect(page.locator("#state")).to_have_text("Cancelled")
        _tab_to(page, page.get_by_role("button", name="Sign out"))
        keys.press("Enter")
        expect(page.get_by_label("API key")).to_be_focused()


def _tab_to(page: Page, wanted: object) -> None:
    for _ in range(12):
        page.keyboard.press("Tab")
        if wanted.evaluate("found => found === document.activeElement"):  # type: ignore[attr-defined]  # a locator
            return
    raise AssertionError("not within twelve tabs")


def test_a_file_that_is_let_go_over_the_page_is_sent(watch: Watch, database: str) -> None:
    page = watch.page
    page.get_by_label("Data set").select_option("contacts")
    watch.drop((EVIL, ROWS))
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(EVIL)
    assert state(page) == "Waiting"
    assert ask(database, "SELECT file_label, dataset, bytes FROM ingestion_jobs") == [
        (EVIL, "contacts", len(ROWS))
    ]


def test_several_files_are_sent_one_after_the_other_and_appear_in_the_list(
    watch: Watch, database: str
) -> None:
    page = watch.page
    page.get_by_label("or another name").fill("people")
    watch.drop(("one.csv", ROWS), ("broken.bin", "\1\2\3\0" * 9), (EVIL, ROWS + "2,grace@example.com\n"))
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#sending li")).to_have_count(3)
    expect(page.locator("#sending li").nth(1)).to_contain_text("Send CSV, JSON, NDJSON, Parquet")
    expect(page.locator("#history tbody tr")).to_have_count(2)
    expect(page.locator("#history")).to_contain_text(EVIL)
    assert page.get_by_role("link", name="see its import").count() == 2
    watch.picture("several")
    found = ask(database, "SELECT file_label FROM ingestion_jobs ORDER BY created_at")
    assert found == [("one.csv",), (EVIL,)]


def test_a_data_set_must_be_chosen_before_anything_is_sent(watch: Watch, database: str) -> None:
    watch.drop(("one.csv", ROWS))
    watch.page.get_by_role("button", name="Send").click()
    missing = watch.page.get_by_label("Data set").evaluate("found => found.validationMessage")
    assert "Choose a data set" in missing
    assert watch.page.locator("#sending li").count() == 0


def test_progress_is_shown_as_it_happens_and_told_to_who_cannot_see_it(
    watch: Watch, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    page = watch.open(path)
    page.evaluate("window.sameDocument = true")
    queue = worker()
    claim = queue.claim()
    assert claim
    expect(page.locator("#state")).to_have_text("Importing")
    expect(page.get_by_role("progressbar", name="Import under way")).to_be_visible()
    assert queue.beat(claim, Counts(rows_read=1200, rows_valid=1199, rows_invalid=1)) is Beat.KEPT
    expect(page.locator("[data-count=rows_read]")).to_have_text("1,200")
    watch.picture("importing")
    with queue.holding(claim) as connection:
        write_errors(
            connection, claim.job.id, [RowError(7, "email", "rule:format", "is no address", EVIL)], 9, 99
        )
    queue.finish(claim, "COMPLETED_WITH_ERRORS", Counts(2000, 1999, 1, 1999, 0, 0), {})
    expect(page.get_by_role("status")).to_have_text("Imported, rows refused")
    expect(page.locator("[data-count=rows_inserted]")).to_have_text("1,999")
    expect(page.locator(".errors tbody tr")).to_contain_text(["7 email is no address"])
    assert page.get_by_role("progressbar").count() == 0
    assert page.evaluate("window.sameDocument")


def test_a_running_import_is_cancelled_from_its_page(watch: Watch, api: UploadApi, worker: Worker) -> None:
    page_path = entered(api, worker)
    queue = worker()
    claim = queue.claim()
    assert claim
    page = watch.open(page_path)
    page.get_by_role("button", name="Cancel this import").click()
    expect(page.locator("#job")).to_contain_text("It ends as soon as its worker hears of it")
    assert queue.beat(claim, Counts(5, 5)) is Beat.CANCEL
    queue.cancelled(claim, Counts(5, 5))
    expect(page.locator("#state")).to_have_text("Cancelled")


def test_refused_rows_are_paged_and_downloaded(
    watch: Watch, api: UploadApi, worker: Worker, tmp_path: Path
) -> None:
    path = entered(api, worker)
    finish(worker, "COMPLETED_WITH_ERRORS", Counts(90, 20, 70, 20, 0, 0), refused=70)
    page = watch.open(path)
    assert page.locator(".errors tbody tr").count() == 50
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as CSV").click()
    download.value.save_as(tmp_path / "errors.csv")
    assert len((tmp_path / "errors.csv").read_text().splitlines()) == 71
    page.get_by_role("link", name="Next rows").click()
    expect(page.locator(".errors tbody tr")).to_have_count(20)
    page.get_by_role("link", name="First rows").click()
    expect(page.locator(".errors tbody tr")).to_have_count(50)


def test_history_is_shown_by_state(watch: Watch, api: UploadApi, worker: Worker) -> None:
    everything(api, worker)
    page = watch.open()
    states = {"All": 5, "Waiting": 1, "Importing": 1, "Imported": 1, "Imported, rows refused": 1, "Failed": 1}
    for name, count in states.items():
        page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()
        expect(page.locator("nav [aria-current=page]")).to_have_text(name)
        expect(page.locator("#history tbody tr")).to_have_count(count)
    page.get_by_role("link", name="Cancelled").click()
    expect(page.locator("#history")).to_contain_text("No import has been cancelled")


def test_a_link_on_another_site_leads_to_the_import_without_signing_in_again(
    watch: Watch, api: UploadApi, worker: Worker
) -> None:
    path = entered(api, worker)
    watch.page.goto("about:blank")
    watch.page.set_content(f'<a href="{api.url}{path}">the import</a>')
    watch.page.get_by_role("link", name="the import").click()
    expect(watch.page.get_by_role("heading", level=1)).to_have_text("people.csv")


def test_who_signed_out_does_not_come_back_by_the_back_button(
    watch: Watch, api: UploadApi, worker: Worker
) -> None:
    page = watch.open(entered(api, worker))
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("API key").wait_for()
    page.go_back()
    expect(page.get_by_role("alert")).to_contain_text("You are signed out")
    assert "people.csv" not in page.content()


def test_a_wrong_key_is_told_at_the_field(browser: Browser, api: UploadApi) -> None:
    with watching(browser, api.url) as watch:
        page = watch.open()
        page.get_by_label("API key").fill("hw_uploader_wrong-wrong-wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("This key is not known")
        expect(page.get_by_label("API key")).to_have_value("")
        assert watch.barriers() == ""
        watch.picture("wrong-key")


def test_without_scripts_a_file_is_sent_and_followed_by_hand(
    browser: Browser, api: UploadApi, settings: Settings, worker: Worker, tmp_path: Path
) -> None:
    with watching(browser, api.url, java_script_enabled=False) as watch:
        page = watch.sign_in(api.key)
        page.get_by_label("Data set").select_option("contacts")
        page.get_by_label("File", exact=True).set_input_files(people(tmp_path))
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#state")).to_have_text("Waiting")
        finish(worker, "COMPLETED", Counts(2, 2, 0, 2, 0, 0))
        page.get_by_role("link", name="Look again").click()
        expect(page.locator("#state")).to_have_text("Imported")


@pytest.mark.parametrize("light", ["light", "dark"])
@pytest.mark.parametrize(("width", "size"), [("wide", (1100, 800)), ("phone", PHONE)])
def test_every_page_is_free_of_barriers_in_any_light_and_width(
    browser: Browser,
    api: UploadApi,
    settings: Settings,
    worker: Worker,
    light: str,
    width: str,
    size: tuple[int, int],
) -> None:
    jobs = everything(api, worker)
    names = ["imported", "refused-rows", "failed", "importing", "waiting"]
    places = {"list": "/uploads", "empty": "/uploads?status=CANCELLED", "no-such": "/uploads/jobs/none"}
    with watching(browser, api.url, size, color_scheme=light, reduced_motion="reduce") as watch:
        watch.open()
        assert watch.barriers() == ""
        watch.picture(f"sign-in-{width}-{light}")
        watch.sign_in(api.key)
        for name, path in (places | dict(zip(names, jobs, strict=True))).items():
            watch.open(path)
            assert watch.barriers() == "", name
            assert watch.fits(), name
            watch.picture(f"{name}-{width}-{light}")
