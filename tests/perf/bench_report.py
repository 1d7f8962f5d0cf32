"""Figures of the races → comparisons with the peers, as a table, bench.json and bench.png."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from headwater.clock import iso, utc_now
from local.install import command
from local.places import ROOT
from tests.perf.figures import OURS, Figure

_GIB = 1 << 30
_PACKAGES = (
    "pyspark delta-spark deltalake pyarrow polars confluent-kafka aiokafka fastapi uvicorn psycopg"
    " elasticsearch"
).split()
_HEAD = ("race", "peer", "measure", "headwater", "peer has", "ratio", "", "aim", "")


@dataclass(frozen=True)
class Aim:
    """What we want: so many times as good as the peer, and a value of our own; None: no aim."""

    ratio: float | None = None
    value: float | None = None


# (race, measure) → aim. Without one, a ratio is told all the same.
AIMS = {
    ("bronze", "rows/s"): Aim(0.6, 60_000),
    ("silver", "rows/s"): Aim(value=25_000),
    ("api", "requests/s"): Aim(2, 1_500),
    ("postgres", "rows/s"): Aim(0.4),
    ("postgres", "rows/s, no outbox"): Aim(0.4),
    ("ingested", "rows/s"): Aim(0.35),
    ("rows", "rows/s, csv"): Aim(0.25),
    ("rows", "rows/s, ndjson"): Aim(0.25),
    ("elasticsearch", "rows/s"): Aim(1.0),
    ("whole way", "p95 s"): Aim(3, 5),
}


@dataclass(frozen=True)
class Comparison:
    """One measure of ours beside a peer's: medians of the warm rounds."""

    race: str
    peer: str
    measure: str
    ours: float
    theirs: float
    higher_is_better: bool

    @property
    def ratio(self) -> float:
        """How many times as good as the peer: above 1 is won, also where less is better."""
        return self.ours / self.theirs if self.higher_is_better else self.theirs / self.ours

    @property
    def won(self) -> bool:
        return self.ratio > 1

    @property
    def aim(self) -> Aim:
        return AIMS.get((self.race, self.measure), Aim())

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        tests = []
        if self.aim.ratio is not None:
            tests.append(self.ratio >= self.aim.ratio)
        if self.aim.value is not None:
            enough = self.ours >= self.aim.value
            tests.append(enough if self.higher_is_better else self.ours <= self.aim.value)
        return all(tests) if tests else None


def comparisons(figures: Sequence[Figure]) -> list[Comparison]:
    """Each figure of a peer beside ours of the same race and measure; KeyError when ours is missing."""
    ours = {(f.race, f.measure): f for f in figures if f.contender == OURS}
    return [
        Comparison(
            f.race,
            f.contender,
            f.measure,
            ours[f.race, f.measure].median,
            f.median,
            f.higher_is_better,
        )
        for f in figures
        if f.contender != OURS
    ]


def table(found: Sequence[Comparison]) -> str:
    """The medians, the ratio, who won, the aim and whether it is met; below, all that is lost or missed."""
    rows = [_HEAD, *[_row(one) for one in found]]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    bad = [one for one in found if not one.won or one.met is False]
    lines += ["", "ratio: how many times as good as the peer. Medians of the warm rounds."]
    lines += [f"  {_place(one)}: {one.ratio:.2f} times {one.peer}, {_words(one)}" for one in bad]
    return "\n".join(line.rstrip() for line in lines)


def _row(one: Comparison) -> tuple[str, ...]:
    medians = (number(one.ours), number(one.theirs), f"{one.ratio:.2f}")
    met = "" if one.met is None else "met" if one.met else "missed"
    return (one.race, one.peer, one.measure, *medians, "won" if one.won else "lost", _aim(one), met)


def _aim(one: Comparison) -> str:
    wanted = [f"{one.aim.ratio:g} times"] if one.aim.ratio is not None else []
    if one.aim.value is not None:
        wanted.append(f"{'≥' if one.higher_is_better else '≤'} {number(one.aim.value)}")
    return ", ".join(wanted)


def _words(one: Comparison) -> str:
    return " and ".join(["lost"] * (not one.won) + [f"misses the aim {_aim(one)}"] * (one.met is False))


def _place(one: Comparison) -> str:
    return f"{one.race}, {one.measure}"


def number(value: float) -> str:
    """Whole from 100 on, else three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save(path: Path, facts: dict[str, Any], figures: Sequence[Figure]) -> None:
    """All runs, the comparisons and the machine, as JSON."""
    compared = [
        asdict(one) | {"ratio": one.ratio, "won": one.won, "aim": asdict(one.aim), "met": one.met}
        for one in comparisons(figures)
    ]
    document = facts | {
        "figures": [asdict(figure) | {"median": figure.median} for figure in figures],
        "comparisons": compared,
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """When and on what: load is that of the minute before, for machines that do other work besides."""
    return {
        "at": iso(utc_now()),
        "commit": _first_line("git", "describe", "--always", "--dirty"),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / _GIB, 1),
            "load": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            "java": _first_line("java", "-version"),
            **{name: _version(name) for name in _PACKAGES},
        },
    }


def _processor() -> str | None:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), None)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # only its race fails
        return None


def _first_line(program: str, *words: str) -> str | None:
    told = subprocess.run([command(program), *words], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (told.stdout or told.stderr).splitlines()
    return lines[0] if lines and not told.returncode else None


def chart(found: Sequence[Comparison], path: Path) -> None:
    """A bar for each comparison: the ratio to the peer, with a line where both are alike."""
    import matplotlib as mpl  # of the extra `bench`: not there after `make setup`

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.5 * len(found)), layout="constrained")
    names = [f"{_place(one)}\nagainst {one.peer}" for one in found]
    colours = ["tab:green" if one.won else "tab:red" for one in found]
    bars = axes.barh(range(len(found)), [one.ratio for one in found], color=colours)
    axes.bar_label(bars, [f" {one.ratio:.2f}" for one in found])
    for row, one in enumerate(found):
        if one.aim.ratio is not None:
            axes.plot([one.aim.ratio] * 2, [row - 0.4, row + 0.4], color="black", linestyle=":")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(found)), names)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("times as good as the peer (dotted: the aim)")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
