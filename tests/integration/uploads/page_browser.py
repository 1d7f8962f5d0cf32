"""Debian's Chromium on the page: what it did wrong is remembered, what it showed is kept as a picture."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.integration.api_server import ROOT

PICTURES = ROOT / ".local" / "test-artefacts" / "page"
WIDE, PHONE = (1100, 800), (360, 740)
WAIT_MS = 60_000
# A page that answers 401 or 404 is told by the browser as a failure to load it.
_REFUSED = "Failed to load resource"
_DROP = """([place, files]) => {
  const held = new DataTransfer();
  for (const [name, text] of files) held.items.add(new File([text], name));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    place.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: held }));
  }
}"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser. Its loop runs in this thread: nothing else may use asyncio meanwhile."""
    found = shutil.which("chromium")
    assert found, "chromium is missing; install with: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()


class Watch:
    """A page under observation."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.faults: list[str] = []
        self.asked: set[str] = set()
        self._url = url
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._heard)
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.on("dialog", self._spoken)
        page.on("request", lambda request: self.asked.add(request.url))

    def open(self, path: str = "/uploads") -> Page:
        self.page.goto(self._url + path)
        return self.page

    def sign_in(self, key: str, area: str = "/uploads") -> Page:
        """On the front of an area, signed in."""
        self.open(area)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("button", name="Sign out").wait_for()
        return self.page

    def picture(self, name: str, folder: Path = PICTURES) -> None:
        """Keep what is shown."""
        folder.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=folder / f"{name}.png", full_page=True)

    def barriers(self) -> str:
        """What keeps people from using what is shown, as axe finds it; empty when nothing does."""
        found = Axe().run(self.page)
        return str(found.generate_report()) if found.violations_count else ""

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def drop(self, *files: tuple[str, str]) -> None:
        """Names and texts of files, let go over the place for them."""
        place = self.page.locator("#drop").element_handle()
        self.page.evaluate(_DROP, [place, [list(file) for file in files]])

    def elsewhere(self) -> list[str]:
        """What was asked of anybody but the API."""
        return [address for address in self.asked if not address.startswith((f"{self._url}/", "blob:"))]

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_REFUSED):
            self.faults.append(message.text)

    def _spoken(self, dialog: object) -> None:
        self.faults.append(f"a dialog opened: {dialog}")


@contextmanager
def watching(browser: Browser, url: str, size: tuple[int, int] = WIDE, **options: object) -> Iterator[Watch]:
    """A window of its own, at whose end nothing may have gone wrong."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]  # passed on
    try:
        made = Watch(context.new_page(), url)
        yield made
        assert made.faults == []
        assert made.elsewhere() == []
    finally:
        context.close()


def people(folder: Path, name: str = "people.csv") -> Path:
    """A file to choose."""
    found = folder / name
    found.write_bytes(b"contact_id,email\n1,ada@example.com\n2,grace@example.com\n")
    return found
