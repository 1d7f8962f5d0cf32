"""What an answer means, when to try again, and when to leave a connector alone for a while."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from random import SystemRandom
from typing import Literal

from sinks.webhook.transport import Answer

Verdict = Literal["delivered", "again", "refused"]
_PASSING = {408, 425, 429}
FIRST_WAIT = timedelta(seconds=10)
LONGEST_WAIT = timedelta(hours=6)
PATIENCE = timedelta(hours=72)
# A wait is stretched by up to this share, so that what failed together does not come back together.
JITTER = 0.25
_DOUBLINGS = 32
_random = SystemRandom()


def judge(answer: Answer) -> Verdict:
    """2xx is delivered; no answer, 408, 425, 429 and 5xx may pass; a redirect or another 4xx is final."""
    status = answer.status
    if status is None or status in _PASSING or status >= 500:
        return "again"
    return "delivered" if 200 <= status < 300 else "refused"


def wait_before_next(
    attempts: int,
    age: timedelta,
    retry_after_s: float | None = None,
    chance: Callable[[], float] = _random.random,
) -> timedelta | None:
    """How long to wait after so many attempts of a delivery of that age; None when the patience is over.

    Waits double from 10 s to 6 h. Retry-After lengthens a wait, up to 6 h. The last attempt is made as the
    patience ends. A length, not a moment: whoever has the delivery's other times adds it to his own clock.
    """
    left = PATIENCE - age
    if left <= timedelta(0):
        return None
    doubled: timedelta = FIRST_WAIT * (1 << min(max(attempts, 1) - 1, _DOUBLINGS))
    wait = min(doubled, LONGEST_WAIT) * (1 + JITTER * chance())
    asked = timedelta(seconds=min(retry_after_s or 0.0, LONGEST_WAIT.total_seconds()))
    return min(max(wait, asked), left)


class State(IntEnum):
    """Of a breaker; the numbers are those of the metric."""

    CLOSED = 0
    PROBING = 1
    OPEN = 2


@dataclass
class Breaker:
    """After 5 failures in a row nothing is sent for 60 s, then one request probes."""

    threshold: int = 5
    pause_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    failures: int = 0
    opened_at: float | None = None

    @property
    def state(self) -> State:
        if self.opened_at is None:
            return State.CLOSED
        return State.PROBING if self.clock() - self.opened_at >= self.pause_s else State.OPEN

    def admits(self, most: int) -> int:
        """How many requests may be sent at once now, `most` at the utmost."""
        return {State.CLOSED: most, State.PROBING: 1, State.OPEN: 0}[self.state]

    def note(self, went_well: bool) -> None:
        """Tell of a request that has ended."""
        if went_well:
            self.failures, self.opened_at = 0, None
            return
        self.failures += 1
        if self.failures >= self.threshold:
            self.opened_at = self.clock()
