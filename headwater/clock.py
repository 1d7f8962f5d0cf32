"""The wall clock in Python, always UTC, and whether it was set back. Durations go by time.monotonic."""

import os
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

from headwater.errors import SetupError

# The pattern by which Spark writes a time as ISO 8601 with microseconds, in UTC with Z.
ISO_MICROSECONDS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"
_ZONE = len("+00:00")


def keep_to_utc() -> None:
    """This process, and those that it starts, take local time for UTC, as PySpark's moments without a zone
    have to be."""
    os.environ["TZ"] = "UTC"
    time.tzset()  # else Python goes by what the variable was when it started


def utc_now() -> datetime:
    """The time now, with its zone."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 with milliseconds and Z, as events carry it."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-_ZONE] + "Z"


def day_of(text: str) -> date:
    """The day that is written YYYY-MM-DD. Raises SetupError for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise SetupError(f"{text!r} is not a day: write it as 2026-03-31") from None


def month_of(text: str) -> date:
    """The first day of the month that is written YYYY-MM. Raises SetupError for anything else."""
    try:
        return day_of(f"{text}-01")
    except SetupError:
        raise SetupError(f"{text!r} is not a month: write it as 2026-03") from None


def months_before(day: date, months: int) -> date:
    """The first day of the month that is so many months before the day's."""
    index = day.year * 12 + day.month - 1 - months
    return date(index // 12, index % 12 + 1, 1)


class StepWatch:
    """Tells when the wall clock was set back, against the clock that nobody sets."""

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall, self._steady = wall, steady
        self._lead = self._wall() - self._steady()

    def back_s(self) -> float:
        """By how many seconds it went back since the last look; 0 when it did not."""
        before, self._lead = self._lead, self._wall() - self._steady()
        return max(0.0, before - self._lead)
