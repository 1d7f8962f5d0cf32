"""The page under attack: cookies, forged forms, fixed and ended sessions, other tenants, headers."""

from collections.abc import Iterator

import pytest

from api.page.sessions import LIFE_S
from headwater.settings import Settings
from tests.integration.broker import eventually
from tests.integration.uploads.conftest import Worker
from tests.integration.uploads.harness import ROWS, UploadApi, ask, new_job
from tests.integration.uploads.page_harness import FIELD, Browser, attributes, browsing, text_of

NOWHERE = "/uploads/jobs/00000000-0000-4000-8000-000000000001"
SESSION, VISIT = "headwater_session", "headwater_visit"


@pytest.fixture
def browser(api: UploadApi, settings: Settings) -> Iterator[Browser]:
    """Signed in; may send, look and cancel."""
    with browsing(api, api.key) as made:
        yield made


def entered(api: UploadApi, worker: Worker) -> str:
    new = new_job(tenant_id=api.tenant)
    worker().enter(new)
    return f"/uploads/jobs/{new.id}"


def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_other_routes(api: UploadApi) -> None:
    with browsing(api) as browser:
        first = browser.get()
        answer = browser.sign_in(api.key)
    for found in (attributes(first, VISIT), attributes(answer, SESSION)):
        assert found == {"httponly", "samesite=strict", "path=/uploads", f"max-age={LIFE_S}"}


def test_the_cookie_is_secure_where_the_browser_speaks_https(api: UploadApi) -> None:
    with browsing(api) as browser:
        data = {FIELD: browser.token(), "key": api.key}
        answer = browser.http.post(
            "/uploads/sign-in", data=data, headers={"Origin": "https://headwater.example"}
        )
    assert answer.status_code == 303
    assert "secure" in attributes(answer, SESSION)


def test_the_cookie_says_nothing_of_the_keys_secret(api: UploadApi) -> None:
    with browsing(api, api.key) as browser:
        assert api.key.split("_", 2)[2] not in str(browser.session)


@pytest.mark.parametrize(
    "key", ["", "x", "hw_uploader_wrong-wrong-wrong-wrong", "hw_nobody_0123456789abcdef0123"]
)
def test_a_wrong_key_is_refused_without_a_session_and_is_not_shown(api: UploadApi, key: str) -> None:
    with browsing(api) as browser:
        answer = browser.sign_in(key)
        assert answer.status_code == 401
        assert browser.session is None
    assert "This key is not known" in text_of(answer)
    assert not key or f'value="{key}"' not in answer.text


def test_a_key_without_a_scope_for_uploads_gets_no_session(api: UploadApi) -> None:
    with api.key_of(()) as key, browsing(api) as browser:
        answer = browser.sign_in(key)
        assert (answer.status_code, browser.session) == (403, None)


def test_a_session_that_was_planted_is_not_taken_over(api: UploadApi) -> None:
    with browsing(api, api.stranger_key) as attacker, browsing(api) as victim:
        planted = str(attacker.session)
        token = victim.token()
        victim.http.cookies.set(SESSION, planted, path="/uploads")
        answer = victim.http.post("/uploads/sign-in", data={FIELD: token, "key": api.key})
        assert answer.status_code == 303
        assert planted not in str(answer.headers.get_list("set-cookie"))
        assert attacker.get(NOWHERE).status_code == 401  # nor does it live on beside the new one


def test_who_signs_in_again_has_a_new_session_and_the_old_one_is_over(api: UploadApi) -> None:
    with browsing(api, api.key) as browser, browsing(api) as tab:
        token, old = tab.token(), str(browser.session)
        browser.http.cookies.set(VISIT, str(tab.http.cookies.get(VISIT)), path="/uploads")
        assert browser.http.post("/uploads/sign-in", data={FIELD: token, "key": api.key}).status_code == 303
        tab.http.cookies.set(SESSION, old, path="/uploads")
        assert tab.get(NOWHERE).status_code == 401
        assert browser.get(NOWHERE).status_code == 404


def test_signing_out_ends_the_session_wherever_its_cookie_is(browser: Browser, api: UploadApi) -> None:
    stolen = browser.session
    answer = browser.post("/uploads/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/uploads")
    assert "max-age=0" in attributes(answer, SESSION)
    with browsing(api) as thief:
        thief.http.cookies.set(SESSION, str(stolen), path="/uploads")
        assert "Sign out" not in text_of(thief.get())
        assert thief.get(NOWHERE).status_code == 401


def test_a_session_ends_with_its_key(api: UploadApi) -> None:
    with api.key_of(("jobs:read",)) as key, browsing(api, key) as browser:
        assert "Sign out" in text_of(browser.get())
        api.revoke(key)
        eventually(lambda: "Sign out" not in text_of(browser.get()), "the session's end")
        assert browser.get(NOWHERE).status_code == 401


def test_a_session_ends_with_a_new_secret_of_its_key(api: UploadApi) -> None:
    with api.key_of(("jobs:read",), name="rotated") as key, browsing(api, key) as browser:
        with api.key_of(("jobs:read",), name="rotated"):
            eventually(lambda: "Sign out" not in text_of(browser.get()), "the session's end")


def test_scopes_that_a_key_lost_are_lost_to_its_session(api: UploadApi) -> None:
    with api.key_of(("jobs:read", "upload:write")) as key, browsing(api, key) as browser:
        api.grant(key, ("jobs:read",))
        eventually(lambda: 'id="send"' not in browser.get().text, "the form to go")
        assert browser.post(f"{NOWHERE}/cancel").status_code == 403


@pytest.mark.parametrize(
    "cookie",
    ["x", "uploader.9999999999." + "A" * 43, "nobody.9999999999." + "A" * 43, "..", "a" * 4000, "\u00fc"],
)
def test_a_made_up_session_is_nobodys(api: UploadApi, cookie: str) -> None:
    with browsing(api) as browser:
        answer = browser.http.get(NOWHERE, headers=[(b"Cookie", f"{SESSION}={cookie}".encode())])
    assert answer.status_code == 401


def test_a_session_whose_end_was_moved_is_nobodys(browser: Browser) -> None:
    key_id, ends_at, token = str(browser.session).rsplit(".", 2)
    browser.http.cookies.clear()
    browser.http.cookies.set(SESSION, f"{key_id}.{int(ends_at) + 1}.{token}", path="/uploads")
    assert browser.get(NOWHERE).status_code == 401


def test_a_form_without_its_token_is_refused(browser: Browser, api: UploadApi, worker: Worker) -> None:
    path = entered(api, worker)
    for way in (f"{path}/cancel", "/uploads/sign-out"):
        assert browser.http.post(way, data={"more": "x"}).status_code == 403
        assert browser.http.post(way, data={FIELD: "0" * 64}).status_code == 403
    assert browser.get(path).status_code == 200
    assert "Waiting" in text_of(browser.get(path))


def test_a_sign_in_form_without_its_token_is_refused(api: UploadApi) -> None:
    with browsing(api) as browser:
        for data in ({}, {FIELD: "0" * 64}):
            answer = browser.http.post("/uploads/sign-in", data={"key": api.key} | data)
            assert answer.status_code == 403
        assert browser.session is None


@pytest.mark.parametrize("token", ["", "0" * 64, "\u00fc", "absent"])
def test_a_file_without_the_sessions_token_is_not_kept(
    browser: Browser, api: UploadApi, database: str, token: str
) -> None:
    before = api.landed
    answer = browser.send(token=token)
    assert answer.status_code == 403
    assert "form is out of date" in text_of(answer)
    assert api.landed == before
    assert ask(database, "SELECT id FROM ingestion_jobs") == []


def test_the_token_of_another_session_is_refused_even_of_the_same_key(
    browser: Browser, api: UploadApi, worker: Worker, database: str
) -> None:
    path = entered(api, worker)
    with browsing(api, api.key) as other, browsing(api) as stranger:
        for token in (other.token(), stranger.token()):
            assert browser.send(token=token).status_code == 403
            assert browser.http.post(f"{path}/cancel", data={FIELD: token}).status_code == 403
    assert ask(database, "SELECT status FROM ingestion_jobs") == [("PENDING",)]


def test_the_token_behind_the_file_comes_too_late(browser: Browser, database: str) -> None:
    parts = [
        ("dataset", (None, "contacts")),
        ("file", ("people.csv", ROWS)),
        (FIELD, (None, browser.token())),
    ]
    assert browser.http.post("/uploads", files=parts).status_code == 403
    assert ask(database, "SELECT id FROM ingestion_jobs") == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_that_another_site_sent_is_refused_even_with_its_token(browser: Browser, site: str) -> None:
    answer = browser.http.post(
        "/uploads/sign-out", data={FIELD: browser.token()}, headers={"Sec-Fetch-Site": site}
    )
    assert answer.status_code == 403
    assert "Sign out" in text_of(browser.get())


def test_another_tenants_import_is_not_there(
    browser: Browser, api: UploadApi, worker: Worker, database: str
) -> None:
    path = entered(api, worker)
    with browsing(api, api.stranger_key) as stranger:
        for way in (path, f"{path}/events", f"{path}/errors.csv"):
            assert stranger.get(way).status_code == 404, way
        assert stranger.post(f"{path}/cancel").status_code == 404
        assert path not in stranger.get().text
    assert path in browser.get().text
    assert ask(database, "SELECT cancel_requested FROM ingestion_jobs") == [(False,)]


def test_scopes_decide_what_is_offered_and_what_is_done(
    api: UploadApi, worker: Worker, settings: Settings
) -> None:
    path = entered(api, worker)
    with browsing(api, api.watcher_key) as watcher:
        assert 'id="send"' not in watcher.get().text
        assert "Cancel this import" not in watcher.get(path).text
        assert watcher.send().status_code == 403
        assert watcher.post(f"{path}/cancel").status_code == 403
    with api.key_of(("upload:write",)) as key, browsing(api, key) as sender:
        page = sender.get()
        assert 'id="send"' in page.text
        assert path not in page.text
        assert sender.get(path).status_code == 403
        answer = sender.send()
        assert (answer.status_code, answer.headers["location"]) == (303, "/uploads?queued=true")
        assert "was taken" in text_of(sender.get("/uploads?queued=true"))


def test_every_answer_lets_a_browser_run_our_own_files_only(browser: Browser) -> None:
    pages = [browser.get(), browser.get(NOWHERE), browser.http.post("/uploads/sign-out", data={"x": "y"})]
    files = [browser.get(f"/uploads/files/{name}") for name in ("page.css", "upload.js", "keys.json")]
    out = browser.post("/uploads/sign-out")
    assert [answer.status_code for answer in (*pages, *files, out)] == [200, 404, 403, 200, 200, 404, 303]
    for answer in (*pages, *files, out, browser.get()):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_pages_have_no_script_or_style_of_their_own_and_nothing_from_elsewhere(browser: Browser) -> None:
    for page in (browser.get(), browser.get(NOWHERE), Browser(str(browser.http.base_url)).get()):
        signs = ("<style", " style=", " onclick", " onload", "<script>", "http://", "https://")
        assert not [sign for sign in signs if sign in page.text.lower()]


def test_the_session_opens_no_other_route(browser: Browser, api: UploadApi, worker: Worker) -> None:
    path = entered(api, worker).removeprefix("/uploads")
    cookie = {"Cookie": f"{SESSION}={browser.session}"}
    for way in ("/jobs", path, f"{path}/errors", f"{path}/events"):
        assert browser.get(way, headers=cookie).status_code == 401, way
    assert browser.http.post("/upload?dataset=contacts", content=ROWS, headers=cookie).status_code == 401


def test_the_key_is_in_no_log(api: UploadApi) -> None:
    with browsing(api, api.key) as browser:
        refused = browser.sign_in("hw_uploader_canary-canary-canary")
        session = str(browser.session)
    log = api.logged(refused)
    assert "/uploads/sign-in" in log
    for secret in (api.key.split("_", 2)[2], "canary-canary", session.rsplit(".", 1)[1]):
        assert secret not in log
