"""The page as a browser without scripts has it: cookies, and forms sent as they stand in the HTML."""

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.integration.uploads.harness import ROWS, UploadApi

FIELD = "csrf"
TOKEN = re.compile(rf'name="{FIELD}" value="([0-9a-f]+)"')
FORM = "multipart/form-data"


class Browser:
    """One visitor of an area of the pages; redirects are not followed."""

    def __init__(self, url: str, area: str = "/uploads") -> None:
        self.area = area
        self.http = httpx.Client(base_url=url, timeout=30)

    def get(self, path: str | None = None, **more: Any) -> httpx.Response:
        return self.http.get(path or self.area, **more)

    def token(self, path: str | None = None) -> str:
        """What the forms of this page hold."""
        found = TOKEN.search(self.get(path).text)
        assert found
        return found[1]

    def sign_in(self, key: str, **more: str) -> httpx.Response:
        return self.post(f"{self.area}/sign-in", key=key, **more)

    def post(self, path: str, **fields: str) -> httpx.Response:
        """A form without a file, with the page's token unless another is given."""
        data = {FIELD: self.token()} | fields
        return self.http.post(path, data=data)

    def send(
        self, content: bytes = ROWS, name: str = "people.csv", token: str | None = None, **fields: str
    ) -> httpx.Response:
        """The form with a file, as a browser writes it: the fields first."""
        parts = {FIELD: self.token() if token is None else token, "dataset": "contacts", "other": ""} | fields
        data = {key: value for key, value in parts.items() if not (key == FIELD and token == "absent")}
        return self.http.post("/uploads", data=data, files={"file": (name, content, "text/csv")})

    @property
    def session(self) -> str | None:
        """The session's cookie."""
        return self.http.cookies.get("headwater_session")


@contextmanager
def browsing(api: UploadApi, key: str | None = None, area: str = "/uploads") -> Iterator[Browser]:
    """A visitor; with a key one that is signed in."""
    browser = Browser(api.url, area)
    with browser.http:
        if key:
            assert browser.sign_in(key).status_code == 303
        yield browser


def text_of(answer: httpx.Response) -> str:
    """The words of a page, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def attributes(answer: httpx.Response, cookie: str) -> set[str]:
    """What is said of a cookie beside its value, in lower case."""
    lines = [line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{cookie}=")]
    assert len(lines) == 1, lines
    return {part.strip().lower() for part in lines[0].split(";")[1:]}
