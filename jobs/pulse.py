"""What a query or loop has done lately: its last batches and how far it is behind, for whoever asks."""

import math
from collections import deque
from datetime import datetime

from headwater.clock import utc_now

_KEPT = 200  # batches


class Pulse:
    """Written by the thread that does the batches, read by any other."""

    def __init__(self) -> None:
        self.lag: int | None = None
        self.last_batch_at: datetime | None = None
        self._seconds: deque[float] = deque(maxlen=_KEPT)

    def beat(self, seconds: float) -> None:
        """A batch or step is done, which took so long."""
        self._seconds.append(seconds)
        self.last_batch_at = utc_now()

    @property
    def batch_ms_p95(self) -> float | None:
        """What 95 % of the last batches took at most, by nearest rank; None before the first."""
        # One call copies: the deque may grow meanwhile.
        ordered = sorted(self._seconds.copy())
        return round(ordered[math.ceil(0.95 * len(ordered)) - 1] * 1000, 1) if ordered else None
