"""`make bench`: races against peers.

`python -m tests.perf.bench [RACE…] [--all] [--rows N] [--rounds N] [--out FOLDER]`

Each race runs in a process of its own. Ours and the peer take turns, a warm-up round is left out, what was
written is counted at the destination, and a race whose counts are wrong has no figures. Writes bench.json
(every run, and the machine) and bench.png, and prints a table with the ratios, the lost ones too. Exit code
1: a race failed; 2: the local stack is not up.
"""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from headwater.log import configure_logging
from local.places import LOCAL, say
from local.stack import status
from tests.perf.bench_report import chart, comparisons, machine, save, table
from tests.perf.figures import Figure

_RACE_FAILED = 1
_STACK_DOWN = 2


class RaceFailedError(Exception):
    """A race ended without figures; the others go on."""


@dataclass(frozen=True)
class Race:
    """The sizes that a race has unless others are asked for. A long one is run only when it is named."""

    rows: int
    rounds: int
    long: bool = False


# The race is the function `race(rows, rounds) -> list[Figure]` of tests/perf/race_<name>.py.
RACES = {
    "bronze": Race(1_000_000, 5),
    "silver": Race(200_000, 5),
    "api": Race(2_400, 3),  # rows: requests at the calm rate
    "postgres": Race(100_000, 5),
    "ingested": Race(300_000, 3),
    "rows": Race(300_000, 3),
    "elasticsearch": Race(50_000, 5),
    "whole-way": Race(8_400, 1, long=True),  # rows: events by HTTP that are measured
}


def main() -> int:
    """Race, print, write."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = options()
    if down := [row.name for row in status() if row.state != "up"]:
        say(f"bench: the local stack is not up ({', '.join(down)}): run `make up` first")
        return _STACK_DOWN
    facts = machine()
    asked.out.mkdir(parents=True, exist_ok=True)
    figures: list[Figure] = []
    failed = []
    for name in asked.races:
        rows, rounds = asked.rows or RACES[name].rows, asked.rounds or RACES[name].rounds
        say(f"bench: {name}, {rows:,} rows, {rounds} rounds")
        try:
            figures += in_process(name, rows, rounds)
        except RaceFailedError:
            failed.append(name)
            continue
        save(asked.out / "bench.json", facts, figures)
    finish(figures, asked.out)
    if failed:
        say(f"bench: failed, so without figures: {', '.join(failed)}")
    return _RACE_FAILED if failed else 0


def options() -> argparse.Namespace:
    """What was asked for; `races` are names of RACES in their order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("races", nargs="*", metavar="RACE", help=f"of {', '.join(RACES)}; default: the short")
    parser.add_argument("--all", action="store_true", help="the long ones, too")
    parser.add_argument("--rows", type=at_least_one, help="in each race; default: each race's own")
    parser.add_argument("--rounds", type=at_least_one, help="warm ones; default: each race's own")
    parser.add_argument(
        "--out", type=Path, default=LOCAL / "bench", help="folder of bench.json and bench.png"
    )
    asked = parser.parse_args()
    if unknown := sorted(set(asked.races) - RACES.keys()):
        parser.error(f"no race named {', '.join(unknown)}: expected {', '.join(RACES)}")
    wanted = asked.races or [name for name, race in RACES.items() if asked.all or not race.long]
    asked.races = [name for name in RACES if name in wanted]
    return asked


def at_least_one(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def in_process(name: str, rows: int, rounds: int) -> list[Figure]:
    """The race in a process of its own: neither its JVM nor its heap is there for the next one.

    Raises RaceFailedError; it has told why. When we are ended, so is it, with all that it started.
    """
    spawn = get_context("spawn")
    ours, its = spawn.Pipe(duplex=False)
    process = spawn.Process(target=run, args=(name, rows, rounds, its))
    process.start()
    its.close()
    try:
        found: list[Figure] = ours.recv()
    except EOFError:
        raise RaceFailedError(name) from None
    except BaseException:
        process.terminate()
        raise
    finally:
        process.join()
    return found


def run(name: str, rows: int, rounds: int, to: Connection) -> None:
    """The race, here, and its figures to that end of a pipe."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, lambda *_: None)  # of Ctrl-C our parent hears, too, and ends us once
    configure_logging("WARNING")
    to.send(importlib.import_module(f"tests.perf.race_{name.replace('-', '_')}").race(rows, rounds))


def finish(figures: Sequence[Figure], folder: Path) -> None:
    """The table on stdout, and the picture."""
    if not figures:
        return
    found = comparisons(figures)
    print(table(found), flush=True)
    chart(found, folder / "bench.png")
    say(f"bench: {folder / 'bench.json'}, {folder / 'bench.png'}")


if __name__ == "__main__":
    sys.exit(main())
