"""What a race of `make bench` gives, and how contenders take turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

OURS = "headwater"


class CountError(AssertionError):
    """A contender did not write what it was given: its time means nothing."""


@dataclass(frozen=True)
class Figure:
    """One measure of one contender in one race."""

    race: str  # "bronze", "silver", "api", "postgres", "ingested", "elasticsearch", ...
    contender: str  # OURS or the peer's name
    measure: str  # "rows/s", "requests/s", "p95 s", ...
    runs: tuple[float, ...]  # one value of each warm round, in order
    higher_is_better: bool = True

    @property
    def median(self) -> float:
        """Of the warm rounds."""
        return statistics.median(self.runs)


def interleaved(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, tuple[float, ...]]:
    """What each contender gives in each of so many rounds.

    One more round goes before them: it warms up, and is left out. The contenders take turns, and every other
    round begins with the last of them, so that what changes on the machine meanwhile meets all alike.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        order = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        for name in order:
            found[name].append(contenders[name]())
    return {name: tuple(runs[1:]) for name, runs in found.items()}


def rate(rows: int, work: Callable[[], int]) -> float:
    """Rows a second of `work`, which returns how many rows it can prove to have written.

    Counting that takes long is done by the caller afterwards, by `proven`. Raises CountError.
    """
    began = time.perf_counter()
    counted = work()
    seconds = time.perf_counter() - began
    proven(rows, counted)
    return rows / seconds


def proven(rows: int, counted: int) -> None:
    """Raises CountError unless the destination has all rows, each once."""
    if counted != rows:
        raise CountError(f"{counted:,} rows at the destination, {rows:,} were given")
