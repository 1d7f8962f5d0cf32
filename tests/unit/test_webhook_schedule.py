"""What answers mean, when to try again, and the breaker."""

from datetime import UTC, datetime, timedelta

import pytest

from sinks.webhook.schedule import PATIENCE, Breaker, State, judge, wait_before_next
from sinks.webhook.transport import Answer, retry_after

YOUNG = timedelta(0)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        *[(Answer(status), "delivered") for status in (200, 201, 202, 204, 299)],
        *[(Answer(status), "again") for status in (408, 425, 429, 500, 502, 503, 504, 599)],
        *[(Answer(status), "refused") for status in (301, 302, 307, 308, 400, 401, 403, 404, 409, 410, 422)],
        *[
            (Answer(error=error), "again")
            for error in ("timeout", "connection", "protocol", "address_refused")
        ],
    ],
)
def test_an_answer_is_final_or_may_pass(answer: Answer, verdict: str) -> None:
    assert judge(answer) == verdict


def test_waits_double_from_ten_seconds_to_six_hours() -> None:
    waits = [wait_before_next(n, YOUNG, chance=lambda: 0.0) or YOUNG for n in range(1, 16)]
    assert [wait.total_seconds() for wait in waits[:5]] == [10, 20, 40, 80, 160]
    assert waits[-1] == waits[-3] == timedelta(hours=6)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 10), (0.5, 11.25), (1.0, 12.5)])
def test_a_wait_is_stretched_by_chance(chance: float, seconds: float) -> None:
    assert wait_before_next(1, YOUNG, chance=lambda: chance) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("asked", "seconds"), [(None, 10), (3, 10), (100, 100), (1e9, 21600)])
def test_retry_after_lengthens_a_wait_within_limits(asked: float | None, seconds: float) -> None:
    assert wait_before_next(1, YOUNG, asked, lambda: 0.0) == timedelta(seconds=seconds)


def test_the_last_attempt_is_made_as_the_patience_ends_and_then_it_is_over() -> None:
    assert wait_before_next(30, PATIENCE - timedelta(minutes=1)) == timedelta(minutes=1)
    assert wait_before_next(30, PATIENCE) is None


def test_all_attempts_fit_into_seventy_two_hours() -> None:
    age, attempts = YOUNG, 0
    while (wait := wait_before_next(attempts + 1, age)) is not None:
        age, attempts = age + wait, attempts + 1
    assert age == timedelta(hours=72)
    assert 20 <= attempts <= 30


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"120", 120.0),
        (b" 0 ", 0.0),
        (b"Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
        (b"Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        (b"99999999999999999999", 999999999.0),
        (b"soon", None),
        (b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        (b"-5", None),
        (b"\xff", None),
        (b"", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: bytes | None, seconds: float | None) -> None:
    assert retry_after(header, NOON) == seconds


def test_the_breaker_opens_after_five_failures_in_a_row_and_probes_after_a_minute() -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    for well in (False, False, False, False, True, False, False, False, False):
        breaker.note(well)
    assert (breaker.state, breaker.admits(8)) == (State.CLOSED, 8)
    breaker.note(False)
    assert (breaker.state, breaker.admits(8)) == (State.OPEN, 0)
    now[0] = 59.9
    assert breaker.admits(8) == 0
    now[0] = 60.0
    assert (breaker.state, breaker.admits(8)) == (State.PROBING, 1)


@pytest.mark.parametrize(("well", "state"), [(True, State.CLOSED), (False, State.OPEN)])
def test_a_probe_closes_the_breaker_or_opens_it_again(well: bool, state: State) -> None:
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    for _ in range(5):
        breaker.note(False)
    now[0] = 61.0
    breaker.note(well)
    assert breaker.state is state
