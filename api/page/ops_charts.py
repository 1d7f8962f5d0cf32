"""Runs of quality reports → a line for each table, as numbers that an SVG takes. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from sources.quality_trend import Run

WIDTH, HEIGHT = 160, 36
_EDGE = 3  # so that the line's ends are not cut


@dataclass(frozen=True)
class Trend:
    """A table's runs, and its line: `points` of a polyline, from left to right; higher is better."""

    table: str
    runs: tuple[Run, ...]
    points: str

    @property
    def last(self) -> Run:
        return self.runs[-1]

    @property
    def end(self) -> tuple[str, str]:
        """Where the line ends."""
        x, _, y = self.points.rpartition(" ")[2].partition(",")
        return x, y


def trends(runs: Sequence[Run]) -> list[Trend]:
    """A trend for each table, by name. The runs are in the order of time."""
    tables: dict[str, list[Run]] = {}
    for run in runs:
        tables.setdefault(run.table, []).append(run)
    return [Trend(name, tuple(found), points(found)) for name, found in sorted(tables.items())]


def points(runs: Sequence[Run]) -> str:
    """Evenly spaced. The floor is the worst share, or 90 % where all are better."""
    floor = min(0.9, *[run.share for run in runs])
    step = (WIDTH - 2 * _EDGE) / max(len(runs) - 1, 1)
    room = HEIGHT - 2 * _EDGE
    places = [
        (_EDGE + number * step, _EDGE + room * (1 - min(run.share, 1.0)) / (1 - floor))
        for number, run in enumerate(runs)
    ]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
