"""The page for operators in a real browser: from a group of letters to a replay that is sent, live."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from headwater.postgres import Connection
from tests.integration.ops_harness import OpsApi, all_beat, beat, entered, entry

# Its fixtures: an API on a database and a lake of the test's own, and the owner's connection.
from tests.integration.test_page_ops import api, owner, settings
from tests.integration.uploads.page_browser import PHONE, WAIT_MS, chromium, watching
from tests.letters import identity
from tests.replays import ended, planned

__all__ = ["api", "owner", "settings"]
PATCH = '[{"op": "replace", "path": "/payload/email", "value": "x@example.com"}]'
SIZES = {"wide": (1100, 800), "phone": PHONE}
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


def test_an_operator_goes_from_a_group_to_a_replay_that_is_sent(
    browser: Browser, api: OpsApi, owner: Connection, tmp_path: Path
) -> None:
    all_beat(owner)
    with watching(browser, api.url) as watch:
        page = watch.sign_in(api.key, "/ops")
        expect(page.locator("#flow")).to_contain_text("deliver.leads.postgres")
        expect(page.locator("#balance")).to_contain_text("adds up")
        watch.picture("ops", tmp_path)
        page.locator("#letters").get_by_role("link", name="rule:pattern").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
        page.get_by_label("Patch").fill(PATCH)
        page.get_by_label("Why", exact=True).fill("the form is mended")
        watch.picture("group", tmp_path)
        page.get_by_role("button", name="Ask for a plan").click()
        expect(page.locator("#state")).to_have_text("Waiting for its plan")
        page.evaluate("window.sameDocument = true")
        replay = page.url.rsplit("/", 1)[1]
        planned(owner, replay)
        expect(page.locator("#state")).to_have_text("Planned")
        expect(page.get_by_role("status")).to_have_text("Planned")
        assert page.evaluate("window.sameDocument")
        expect(page.get_by_role("row", name="session_id s-1")).to_contain_text("a new row")
        watch.picture("plan", tmp_path)
        page.get_by_role("button", name="Apply the plan").click()
        expect(page.locator("#state")).to_have_text("Waiting to be sent")
        kept = "SELECT status, approved_by FROM analytics.replays"
        assert owner.execute(kept.encode()).fetchall() == [("approved", "key:operator")]
        ended(owner, replay)
        expect(page.locator("#replay")).to_contain_text("2 letters were sent")
        watch.picture("sent", tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"ops", "group", "plan", "sent"}


def test_what_flows_is_shown_as_it_changes_and_focus_stays(
    browser: Browser, api: OpsApi, owner: Connection
) -> None:
    all_beat(owner)
    with watching(browser, api.url) as watch:
        page = watch.sign_in(api.key, "/ops")
        page.evaluate("window.sameDocument = true")
        link = page.locator("#letters").get_by_role("link", name="All that are new")
        link.focus()
        entered(api, entry(api.tenant, 0, 9, in_rows=41, silver=40))
        expect(page.locator("#balance")).to_contain_text("off by 1")
        for _ in range(20):
            beat(owner, "refine.leads", "failed", 4321)
            if "refine.leads" in page.locator("#flow .note").inner_text():
                break
            page.wait_for_timeout(500)
        expect(page.locator("#flow")).to_contain_text("4,321")
        assert page.evaluate("window.sameDocument")
        expect(link).to_be_focused()


def test_who_signs_out_elsewhere_is_asked_for_a_key(browser: Browser, api: OpsApi, owner: Connection) -> None:
    with watching(browser, api.url) as watch:
        page = watch.sign_in(api.key, "/ops")
        other = page.context.new_page()
        other.goto(f"{api.url}/ops/letters")
        other.get_by_role("button", name="Sign out").click()
        other.get_by_label("API key").wait_for()
        expect(page.get_by_label("API key")).to_be_visible()
        other.close()


def test_without_scripts_the_page_works_by_looking_again(
    browser: Browser, api: OpsApi, owner: Connection
) -> None:
    with watching(browser, api.url, java_script_enabled=False) as watch:
        page = watch.sign_in(api.key, "/ops")
        page.get_by_role("link", name="All that are new").click()
        page.get_by_role("row").nth(1).get_by_role("link").click()
        page.get_by_label("Why", exact=True).fill("x")
        page.get_by_role("button", name="Ask for a plan").click()
        planned(owner, page.url.rsplit("/", 1)[1])
        page.get_by_role("link", name="Look again").click()
        page.get_by_role("button", name="Apply the plan").click()
        expect(page.locator("#state")).to_have_text("Waiting to be sent")


@pytest.mark.parametrize("light", ["light", "dark"])
@pytest.mark.parametrize("width", [*SIZES])
def test_every_page_is_free_of_barriers_in_any_light_and_width(
    browser: Browser, api: OpsApi, owner: Connection, tmp_path: Path, light: str, width: str
) -> None:
    all_beat(owner)
    with watching(browser, api.url, SIZES[width], color_scheme=light, reduced_motion="reduce") as watch:
        page = watch.open("/ops")
        assert watch.barriers() == ""
        watch.sign_in(api.key, "/ops")
        watch.open(f"/ops/letters/{identity(1)}")
        page.get_by_label("Why", exact=True).fill("x")
        page.get_by_role("button", name="Ask for a plan").click()
        expect(page.locator("#state")).to_have_text("Waiting for its plan")
        replay = page.url.removeprefix(api.url)
        planned(owner, replay.rsplit("/", 1)[1])
        places = {
            "front": "/ops", "group": "/ops/letters?status=new", "all": "/ops/letters",
            "letter": f"/ops/letters/{identity(1)}", "replays": "/ops/replays", "replay": replay,
            "none": "/ops/replays?status=failed", "no-such": "/ops/replays/none",
        }  # fmt: skip
        for name, path in places.items():
            watch.open(path)
            assert watch.barriers() == "", name
            assert watch.fits(), name
            watch.picture(f"{name}-{width}-{light}", tmp_path)
