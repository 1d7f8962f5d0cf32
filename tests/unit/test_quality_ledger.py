"""The ledger's numbers: limits, and days held against the weeks before."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.quality_settings import LedgerLimits, StreamLimits
from jobs.quality_ledger import Check, ledger_checks, robust_z
from sources.ledger_days import Counts, Series

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
YESTERDAY = date(2026, 3, 28)
USUAL = Counts(100)
LIMITS = LedgerLimits(
    max_age_hours=24, max_dead_share=0.05, max_duplicate_share=0.5, min_rows=20, weeks=4, min_days=7,
    max_z=3.5, gates=("dead_share",), streams={"calm": StreamLimits(max_age_hours=100)},
)  # fmt: skip
VALUES = st.floats(-1e6, 1e6, allow_nan=False)


def series(
    days: list[int],
    recent: Counts = USUAL,
    age_h: float = 1,
    dead: list[int] | None = None,
    stream: str = "s",
) -> Series:
    """Rows of the days up to yesterday, the last one yesterday's."""
    counts = [Counts(rows, 0, (dead or [0] * len(days))[n]) for n, rows in enumerate(days)]
    by_day = {
        YESTERDAY - timedelta(days=len(days) - 1 - n): one for n, one in enumerate(counts) if one.in_rows
    }
    return Series(stream, "acme", NOW - timedelta(hours=age_h), recent, by_day)


def failed(found: Series, limits: LedgerLimits = LIMITS) -> dict[str, Check]:
    return {check.measure: check for check in ledger_checks([found], NOW, limits) if not check.passed}


@pytest.mark.parametrize(
    ("value", "before", "least", "z"),
    [
        (5, [1, 2, 3, 4, 5], 0.1, 0.6745 * 2),
        (3, [1, 2, 3, 4, 5], 0.1, 0.0),
        (-1, [1, 2, 3, 4, 5], 0.1, 0.6745 * -4),
        # One wild day among the others moves neither the median nor the MAD by much.
        (5, [1, 2, 3, 4, 1_000_000], 0.1, 0.6745 * 2),
        (12, [10, 10, 10, 10], 2.0, 0.6745),
    ],
)
def test_the_score_is_that_of_iglewicz_and_hoaglin(
    value: float, before: list[float], least: float, z: float
) -> None:
    assert robust_z(value, before, least) == pytest.approx(z)


@given(st.lists(VALUES, min_size=1), VALUES, st.floats(1e-3, 1e3), VALUES)
def test_the_score_does_not_depend_on_where_zero_is_and_grows_with_the_value(
    before: list[float], value: float, least: float, more: float
) -> None:
    z = robust_z(value, before, least)
    assert robust_z(value + abs(more), before, least) >= z
    mirrored = robust_z(-value, [-other for other in before], least)
    assert mirrored == pytest.approx(-z, rel=1e-6, abs=1e-6)
    assert robust_z(value, list(reversed(before)), least) == z


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=40), st.integers(0, 10**6))
def test_nothing_is_said_of_a_day_that_is_like_all_others(days: list[int], rows: int) -> None:
    ledger_checks([series([*days, 1])], NOW, LIMITS)  # whatever the days are, it ends
    assert "volume" not in failed(series([rows + 1] * 10))


@pytest.mark.parametrize(
    ("days", "found"),
    [
        ([100] * 7 + [100], False),
        ([100] * 7 + [10], True),
        ([100] * 7 + [400], True),
        ([100, 90, 110, 95, 105, 100, 98, 85], False),
        ([100] * 7 + [0], True),
        # Too few days before yesterday.
        ([100] * 6 + [1], False),
    ],
)  # fmt: skip
def test_a_day_of_unusual_volume_is_told_once_there_are_enough_days(days: list[int], found: bool) -> None:
    assert ("volume" in failed(series(days))) is found


def test_a_day_is_held_against_the_last_weeks_and_not_against_what_was_before() -> None:
    assert "volume" not in failed(series([10] * 100 + [1000] * 28 + [1000]))


def test_a_silent_stream_is_told_by_its_own_limit() -> None:
    late = failed(series([100], age_h=25.0))["freshness"]
    assert (late.severity, late.message) == ("warn", "no row for 25.0 h")
    assert failed(series([100], age_h=23.9)) == {}
    assert failed(series([100], age_h=25.0, stream="calm")) == {}


def test_shares_are_of_the_last_24_hours_and_of_enough_rows() -> None:
    dead = failed(series([100], recent=Counts(100, 0, 6)))["dead_share"]
    assert (dead.severity, dead.message) == ("gate", "6.0% of the last 24 hours, 5.0% allowed")
    assert failed(series([100], recent=Counts(100, 50, 5))) == {}
    assert failed(series([100], recent=Counts(100, 51, 0))).keys() == {"duplicate_share"}
    assert failed(series([100], recent=Counts(19, 0, 19))) == {}


def test_a_share_below_its_limit_is_told_when_it_is_unusual_and_only_then() -> None:
    usual = [1, 2, 1, 1, 2, 1, 1]
    worse = series([1000] * 8, dead=[*usual, 40], recent=Counts(1000, 0, 40))
    assert failed(worse)["dead_share"].message.startswith("unusual on 2026-03-28, z ")
    better = series([1000] * 8, dead=[*[40] * 7, 1])
    assert failed(better) == {}


def test_which_measures_are_gates_is_a_setting() -> None:
    limits = LIMITS.model_copy(update={"gates": ("freshness",)})
    assert failed(series([100], age_h=99.0), limits)["freshness"].severity == "gate"
