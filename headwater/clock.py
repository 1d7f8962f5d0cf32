"""The wall clock in Python, always UTC, and whether it was set back. Durations go by time.monotonic."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

# The pattern by which Spark writes a time as ISO 8601 with microseconds, in UTC with Z.
ISO_MICROSECONDS = "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"


def utc_now() -> datetime:
    """The time now, with its zone."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 with milliseconds and Z, as events carry it."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


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
