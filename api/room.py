"""How much of the bodies of one caller, and of all, may be held at once: a slow crowd is sent away."""

from collections import Counter
from types import TracebackType

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

    def taken(self, credential: str, size: int) -> "Taken":
        """Room for `size` bytes while the block lasts. Raises Problem 503 when there is none."""
        return Taken(self, credential, size)

    def add(self, credential: str, size: int) -> None:
        """Take room. Raises Problem 503 when there is none."""
        held = self._held[credential]
        if self._all + size > self._most or held + size > self._most_each:
            raise unavailable("busy", RETRY_AFTER_S)
        self._all += size
        self._held[credential] = held + size

    def drop(self, credential: str, size: int) -> None:
        """Give it back."""
        self._all -= size
        self._held[credential] -= size
        if not self._held[credential]:
            del self._held[credential]


class Taken:
    """A context manager; one made of a generator costs three times as much."""

    __slots__ = ("_credential", "_room", "_size")

    def __init__(self, room: Room, credential: str, size: int) -> None:
        self._room, self._credential, self._size = room, credential, size

    def __enter__(self) -> None:
        self._room.add(self._credential, self._size)

    def __exit__(
        self, _kind: type[BaseException] | None, _fault: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._room.drop(self._credential, self._size)
