"""How much of the bodies of one caller, and of all, may be held at once: a slow crowd is sent away."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import unavailable

MAX_HELD_BYTES = 128 << 20
MAX_HELD_BYTES_EACH = 32 << 20
RETRY_AFTER_S = 1


class Room:
    """Counts what may be held, which a body reaches at the most, from before it is read until its answer."""

    def __init__(self, most: int = MAX_HELD_BYTES, most_each: int = MAX_HELD_BYTES_EACH) -> None:
        self._most = most
        self._most_each = most_each
        self._held: Counter[str] = Counter()
        self._all = 0

    @contextmanager
    def taken(self, credential: str, size: int) -> Iterator[None]:
        """Room for `size` bytes while the block lasts. Raises Problem 503 when there is none."""
        if self._all + size > self._most or self._held[credential] + size > self._most_each:
            raise unavailable("busy", RETRY_AFTER_S)
        self._add(credential, size)
        try:
            yield
        finally:
            self._add(credential, -size)

    def _add(self, credential: str, size: int) -> None:
        self._all += size
        self._held[credential] += size
        if not self._held[credential]:
            del self._held[credential]
