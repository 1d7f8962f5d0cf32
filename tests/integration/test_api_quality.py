"""GET /quality: who may read reports, what is served, and what is not."""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.api_server import ApiServer, key_entry
from tests.integration.uploads.page_harness import Browser, attributes

HTML = {"Accept": "text/html"}
PAGE = "<!doctype html><title>Data quality</title>"


class QualityApi(ApiServer):
    """`key` may read reports and nothing else, `sender` may upload and read no report."""

    def _keys(self) -> str:
        found = {name: secrets.token_hex(16) for name in ("operator", "sender")}
        scopes = {"operator": ("quality:read",), "sender": ("upload:write",)}
        names = {name: f"{name}{self.tenant}" for name in found}
        entries = [key_entry(names[name], found[name], self.tenant, scopes[name]) for name in found]
        (self.folder / "keys.json").write_text(json.dumps(entries))
        key, self.sender = (f"hw_{names[name]}_{secret}" for name, secret in found.items())
        return key


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QualityApi]:
    server = QualityApi(tmp_path_factory.mktemp("api"))
    server.start(HEADWATER_QUALITY__FOLDER=str(server.folder / "quality"))
    yield server
    server.stop()


@pytest.fixture
def reports(api: QualityApi) -> Path:
    """A report with Data Docs, and files beside them that are nobody's business."""
    root = api.folder / "quality"
    for name in ("index.html", "docs/silver.leads/1/index.html", "docs/silver.leads/1/.draft/index.html"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(PAGE)
    (root / "mlflow").mkdir(exist_ok=True)
    for name in ("mlflow/runs.db", "mlflow/index.html", "docs/secret.txt", "../outside.html"):
        (root / name).write_text("secret")
    link = root / "docs" / "link.html"
    link.unlink(missing_ok=True)
    link.symlink_to(root.parent / "outside.html")
    return root


def test_there_is_nothing_before_the_first_report(api: QualityApi) -> None:
    with api.client() as client:
        for path in ("/quality", "/quality/index.html"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "no_report")


def test_a_program_reads_the_report_and_its_data_docs_by_key(api: QualityApi, reports: Path) -> None:
    with api.client() as client:
        front = client.get("/quality")
        assert (front.status_code, front.headers["location"]) == (307, "/quality/index.html")
        for path in ("/quality/index.html", "/quality/docs/silver.leads/1/index.html"):
            answer = client.get(path)
            assert (answer.status_code, answer.text) == (200, PAGE)
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["x-content-type-options"] == "nosniff"
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "script" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "mlflow/runs.db", "mlflow/index.html", "docs/secret.txt", "docs", "docs/", "docs/silver.leads",
        "other.html",
        "docs/link.html", "docs/silver.leads/1/.draft/index.html", "docs//index.html",
        "../outside.html", "docs/../../outside.html", "docs/..%2f..%2foutside.html", "%2e%2e/outside.html",
        "docs/%2e%2e/%2e%2e/outside.html", "docs/..%5c..%5coutside.html", "docs/a%00.html", "docs/%0a.html",
        "docs/" + "a" * 2000 + ".html", "docs/" + "a" * 300 + ".html",
    ],
)  # fmt: skip
def test_what_is_no_page_of_a_report_is_not_there(api: QualityApi, reports: Path, path: str) -> None:
    with api.client() as client:
        # As it stands: httpx would shorten a path that climbs.
        url = httpx.URL(api.url).copy_with(raw_path=f"/quality/{path}".encode())
        answer = client.get(url)
    assert answer.status_code == 404
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/quality", "/quality/index.html"])
def test_without_the_scope_there_is_no_report(api: QualityApi, reports: Path, path: str) -> None:
    refusals = [
        ({"X-API-Key": api.sender}, 403, "application/problem+json"),
        ({"X-API-Key": "hw_x_" + "y" * 20}, 401, "application/problem+json"),
        ({}, 401, "application/problem+json"),
        (HTML, 401, "text/html; charset=utf-8"),
    ]
    for headers, status, kind in refusals:
        answer = httpx.get(api.url + path, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, kind)
        assert PAGE not in answer.text


def test_a_person_signs_in_and_is_led_to_the_report(api: QualityApi, reports: Path) -> None:
    browser = Browser(api.url, "/quality")
    with browser.http as client:
        client.headers.update(HTML)
        asked = client.get("/quality/index.html")
        assert 'name="after" value="/quality/index.html"' in asked.text
        answer = browser.sign_in(api.key, after="/quality/index.html")
        assert (answer.status_code, answer.headers["location"]) == (303, "/quality/index.html")
        said = attributes(answer, "headwater_session")
        assert {"path=/quality", "httponly", "samesite=strict"} <= said
        assert client.get("/quality/index.html").text == PAGE
        cookie = {"Cookie": f"headwater_session={browser.session}"}
        browser.http.cookies.clear()
        assert client.get("/quality/index.html", headers=cookie).status_code == 200
        assert client.get("/jobs", headers=cookie).status_code == 401


def test_without_the_scope_nobody_is_signed_in(api: QualityApi, reports: Path) -> None:
    browser = Browser(api.url, "/quality")
    with browser.http as client:
        client.headers.update(HTML)
        answer = browser.sign_in(api.sender)
        assert (answer.status_code, browser.session) == (403, None)
        assert "quality:read" in answer.text
        elsewhere = Browser(api.url)
        with elsewhere.http:
            elsewhere.sign_in(api.sender)
            cookie = {"Cookie": f"headwater_session={elsewhere.session}"}
        assert client.get("/quality/index.html", headers=cookie).status_code == 403


@pytest.mark.parametrize(
    "after", ["//evil.example", "/quality/../jobs", "/quality//evil", "https://e.example"]
)
def test_a_place_to_go_to_that_is_not_ours_is_ignored(api: QualityApi, after: str) -> None:
    browser = Browser(api.url, "/quality")
    with browser.http as client:
        client.headers.update(HTML)
        assert browser.sign_in(api.key, after=after).headers["location"] == "/quality"
