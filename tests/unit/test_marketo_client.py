"""The client of Marketo without a network: pace, answers, addresses, settings."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.settings import Marketo, Settings, load_settings
from sources.marketo.answers import (
    Answer,
    QuotaError,
    RefusedParameterError,
    StaleTokenError,
    TooLargeError,
    judge,
    judge_login,
)
from sources.marketo.client import Client
from sources.marketo.pace import Pace
from sources.marketo.transport import checked_base

CANARY = "canary@example.com"


class Clock:
    """Time passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def answered(document: Any, status: int = 200) -> Answer:
    return Answer(status, document if isinstance(document, bytes) else json.dumps(document).encode())


def refused(code: Any, message: str = CANARY) -> Answer:
    return answered({"success": False, "errors": [{"code": code, "message": message}]})


def marketo(**changes: Any) -> Marketo:
    whole = {
        "base_url": "https://acme.mktorest.com", "client_id": "c", "client_secret": "s", "account_id": "acme",
        "fields": (), "since": None, "every_s": 300, "timeout_s": 5, "max_calls": 100, "plain_hosts": (),
    }  # fmt: skip
    return Marketo.model_validate({**whole, **changes})


# Pace


def test_no_window_holds_more_calls_than_admitted_however_long_each_takes() -> None:
    clock, begun = Clock(), list[float]()
    pace = Pace(5, 20.0, clock, clock.sleep)
    for number in range(40):
        with pace.turn():
            begun.append(clock.now)
            clock.now += (0.01, 3.0, 0.5)[number % 3]
    gaps = [later - earlier for earlier, later in zip(begun, begun[5:], strict=False)]
    assert min(gaps) >= 20.0
    assert clock.slept and max(clock.slept) <= 20.0


def test_fewer_calls_wait_for_nothing() -> None:
    clock = Clock()
    pace = Pace(5, 20.0, clock, clock.sleep)
    for _ in range(12):
        with pace.turn():
            clock.now += 5.0
    assert clock.slept == []


def test_a_call_that_fails_counts_too() -> None:
    clock = Clock()
    pace = Pace(1, 20.0, clock, clock.sleep)
    with pytest.raises(TransientError), pace.turn():
        raise TransientError("away")
    with pace.turn():
        assert clock.now == 20.0


# Answers


@pytest.mark.parametrize(
    ("answer", "outcome", "fault"),
    [
        (refused("606"), "606", TransientError),
        (refused(606), "606", TransientError),
        (refused("615"), "615", TransientError),
        (refused("604"), "604", TransientError),
        (refused("608"), "608", TransientError),
        (refused("611"), "611", TransientError),
        (refused("614"), "614", TransientError),
        (refused("713"), "713", TransientError),
        (refused("502"), "502", TransientError),
        (refused("607"), "607", QuotaError),
        (refused("601"), "601", StaleTokenError),
        (refused("602"), "602", StaleTokenError),
        (refused("600"), "600", SetupError),
        (refused("603"), "603", SetupError),
        (refused("610"), "610", SetupError),
        (refused("1006"), "1006", SetupError),
        (refused("1003"), "1003", RefusedParameterError),
        (refused("1001"), "1001", RefusedParameterError),
        (refused("709", "Invalid paging token"), "709", RefusedParameterError),
        (refused("704"), "704", SetupError),
        (refused(CANARY), "unknown", SetupError),
        (answered({"success": False}), "unknown", SetupError),
        (answered({"success": False, "errors": ["606"]}), "unknown", SetupError),
        (answered(b"<html>"), "unreadable", TransientError),
        (answered(b"[" * 100_000), "unreadable", TransientError),
        (answered([1]), "unreadable", TransientError),
        (answered({"result": []}), "unreadable", TransientError),
        (answered({}, 500), "http_500", TransientError),
        (answered({}, 503), "http_503", TransientError),
        (answered({}, 429), "http_429", TransientError),
        (answered({}, 302), "http_302", SetupError),
        (answered({}, 404), "http_404", SetupError),
        (answered({}, 414), "http_414", SetupError),
        (Answer(error="timeout"), "timeout", TransientError),
        (Answer(error="connection"), "connection", TransientError),
        (Answer(error="protocol"), "protocol", TransientError),
        (Answer(error="too_large"), "too_large", TooLargeError),
    ],
)  # fmt: skip
def test_an_answer_without_success_is_a_fault_that_tells_nothing_of_it(
    answer: Answer, outcome: str, fault: type[HeadwaterError]
) -> None:
    judged = judge("changes", answer)
    assert (judged.outcome, judged.document, type(judged.fault)) == (outcome, {}, fault)
    assert CANARY not in str(judged.fault)


def test_success_is_the_document() -> None:
    document = {"success": True, "result": [{"id": 1}]}
    judged = judge("leads", answered(document))
    assert (judged.outcome, judged.document, judged.fault) == ("ok", document, None)


def test_a_days_quota_is_worth_a_retry_but_not_at_once() -> None:
    fault = judge("leads", refused("607")).fault
    assert fault and fault.exit_code == 1 and not isinstance(fault, TransientError)


@pytest.mark.parametrize(
    ("answer", "outcome", "fault"),
    [
        (answered({"access_token": "a:b", "expires_in": 3599}), "ok", type(None)),
        (answered({"error": "unauthorized"}, 401), "http_401", SetupError),
        (answered({"error": "invalid_client"}, 400), "http_400", SetupError),
        (answered({}, 503), "http_503", TransientError),
        (answered({"access_token": "a"}), "unreadable", TransientError),
        (answered({"access_token": "a\r\nb", "expires_in": 1}), "unreadable", TransientError),
        (Answer(error="timeout"), "timeout", TransientError),
    ],
)
def test_a_login_is_a_token_or_a_fault(answer: Answer, outcome: str, fault: type[Any]) -> None:
    judged = judge_login(answer)
    assert (judged.outcome, type(judged.fault)) == (outcome, fault)


# Settings


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://acme.mktorest.com", "plain_hosts"),
        ("ftp://acme.mktorest.com", "https://host"),
        ("acme.mktorest.com", "https://host"),
        ("https://", "https://host"),
        ("https://a:b@acme.mktorest.com", "without a login"),
        ("https://acme.mktorest.com/rest", "no /rest"),
        ("https://acme.mktorest.com/?a=b", "no /rest"),
        ("https://acme.mktorest.com:99999", "https://host"),
        ("https://äcme.example", "https://host"),
    ],
)
def test_an_address_that_may_not_be_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(SetupError, match=rf"marketo\.base_url.*{why}"):
        checked_base(url, ())


def test_an_address_is_https_or_of_a_listed_host() -> None:
    assert checked_base("https://acme.mktorest.com/", ()) == "https://acme.mktorest.com"
    assert checked_base("http://127.0.0.1:80", ["127.0.0.1"]) == "http://127.0.0.1:80"


@pytest.mark.parametrize("key", ["base_url", "client_id", "client_secret", "account_id"])
def test_a_setting_that_is_missing_is_named(key: str) -> None:
    with pytest.raises(SetupError, match=rf"^marketo\.{key} is not set$"):
        Client(marketo(**{key: None}))


def test_marketo_is_off_by_default() -> None:
    assert load_settings("staging").marketo.base_url is None


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    def with_variables(**values: str) -> Settings:
        for name, text in values.items():
            monkeypatch.setenv(f"HEADWATER_MARKETO__{name}", text)
        return load_settings.__wrapped__("staging")

    return with_variables


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SINCE", "2026-03-01T12:00:00"),
        ("ACCOUNT_ID", "not a tenant"),
        ("FIELDS", '["lead Score"]'),
        ("MAX_CALLS", "101"),
    ],
)
def test_a_wrong_setting_is_named(load: Callable[..., Settings], name: str, text: str) -> None:
    with pytest.raises(SetupError, match=rf"marketo\.{name.lower()}"):
        load(**{name: text})


def test_the_secret_may_come_from_a_file_and_is_shown_nowhere(
    load: Callable[..., Settings], tmp_path: Any
) -> None:
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    found = load(CLIENT_SECRET_FILE=str(tmp_path / "secret")).marketo
    assert found.client_secret and found.client_secret.get_secret_value() == CANARY
    assert CANARY not in repr(found) + found.model_dump_json()
