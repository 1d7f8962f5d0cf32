"""Not more calls than Marketo admits in any 20 s.

The package `limits` counts by the wall clock, and says no rather than when: a clock that is set back by an
hour would stop us for an hour.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WINDOW_S = 20.0


class Pace:
    """A sliding window of calls that are made one after the other.

    A call counts from its end. It reached the other side before that, so that a call which begins a window
    later comes there later than a window, too, however long each was on its way.
    """

    def __init__(
        self,
        calls: int,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ended: deque[float] = deque(maxlen=calls)
        self._window_s, self._clock, self._sleep = window_s, clock, sleep

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until one more call may be made, for as long as the block makes it."""
        if len(self._ended) == self._ended.maxlen:
            while (wait := self._ended[0] + self._window_s - self._clock()) > 0:
                self._sleep(wait)
        try:
            yield
        finally:
            self._ended.append(self._clock())
