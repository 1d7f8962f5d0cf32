"""The frame of `make bench`: turns, counts, ratios, and what the table says of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater import session
from local.places import ROOT
from tests.conftest import settings_at
from tests.perf.bench_report import Comparison, comparisons, save, table
from tests.perf.figures import OURS, CountError, Figure, interleaved, proven, rate
from tests.perf.race_whole_way import KEPT, STOCK

RATES = Figure("bronze", OURS, "rows/s", (50_000, 70_000, 61_000))
PEERS = Figure("bronze", "peer", "rows/s", (100_000, 120_000, 90_000))


def against(
    ours: float, theirs: float, *, race: str = "none", measure: str = "x", more: bool = True
) -> Comparison:
    return Comparison(race, "peer", measure, ours, theirs, more)


def test_contenders_take_turns_and_the_first_round_is_left_out() -> None:
    order: list[str] = []

    def contender(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or float(len(order))

    found = interleaved(3, {"a": contender("a"), "b": contender("b")})
    assert "".join(order) == "abbaabba"
    assert found == {"a": (4, 5, 8), "b": (3, 6, 7)}


def test_of_the_settings_of_a_session_the_stock_peer_has_each_back_or_keeps_it_by_name(
    tmp_path: Path,
) -> None:
    """A setting that is new in a session has to be weighed here, too."""
    ours = session.defaults(settings_at(tmp_path))
    assert ours.keys() <= STOCK.keys() | KEPT
    assert not STOCK.keys() & KEPT


def test_a_rate_is_rows_by_the_seconds_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((10.0, 10.5))
    monkeypatch.setattr("tests.perf.figures.time.perf_counter", lambda: next(clock))
    assert rate(100, lambda: 100) == 200


@pytest.mark.parametrize("counted", [99, 101])
def test_work_that_did_not_write_every_row_once_has_no_rate(counted: int) -> None:
    with pytest.raises(CountError, match=f"{counted} rows at the destination, 100 were given"):
        rate(100, lambda: counted)
    with pytest.raises(CountError):
        proven(100, counted)


def test_medians_are_compared_not_best_runs() -> None:
    (found,) = comparisons([RATES, PEERS])
    assert (found.ours, found.theirs, found.ratio) == (61_000, 100_000, 0.61)
    assert found.met and not found.won


def test_a_peer_without_ours_of_the_same_measure_is_a_fault() -> None:
    with pytest.raises(KeyError):
        comparisons([PEERS])


@pytest.mark.parametrize(
    ("ours", "theirs", "more", "ratio", "won"),
    [
        (30, 10, True, 3, True),
        (10, 30, False, 3, True),
        (30, 10, False, 1 / 3, False),
        (5, 5, True, 1, False),
    ],
)
def test_a_ratio_above_one_is_won_whichever_way_is_better(
    ours: float, theirs: float, more: bool, ratio: float, won: bool
) -> None:
    found = against(ours, theirs, more=more)
    assert (found.ratio, found.won, found.met) == (ratio, won, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "met"),
    [(1_500, 750, True), (1_500, 1_000, False), (1_000, 250, False)],
)
def test_an_aim_is_met_when_both_ratio_and_value_are(ours: float, theirs: float, met: bool) -> None:
    assert against(ours, theirs, race="api", measure="requests/s").met is met


@pytest.mark.parametrize(("ours", "met"), [(4.9, True), (5.1, False)])
def test_of_a_latency_the_aim_is_the_most(ours: float, met: bool) -> None:
    assert against(ours, 20, race="whole way", measure="p95 s", more=False).met is met


def test_the_table_names_what_is_lost_and_what_is_missed() -> None:
    lines = table(
        [
            against(61_000, 100_000, race="bronze", measure="rows/s"),
            against(1_000, 250, race="api", measure="requests/s"),
            against(2, 3, race="calm", measure="p50 ms", more=False),
        ]
    ).splitlines()
    cells = [re.split(r"\s{2,}", line) for line in lines[2:5]]
    assert cells[0] == [
        "bronze",
        "peer",
        "rows/s",
        "61,000",
        "100,000",
        "0.61",
        "lost",
        "0.6 times, ≥ 60,000",
        "met",
    ]
    assert cells[1][5:] == ["4.00", "won", "2 times, ≥ 1,500", "missed"]
    assert cells[2] == ["calm", "peer", "p50 ms", "2", "3", "1.50", "won"]
    assert lines[-2:] == [
        "  bronze, rows/s: 0.61 times peer, lost",
        "  api, requests/s: 4.00 times peer, misses the aim 2 times, ≥ 1,500",
    ]


def test_the_file_has_every_run(tmp_path: Path) -> None:
    save(tmp_path / "bench.json", {"machine": {"cpus": 2}}, [RATES, PEERS])
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["machine"] == {"cpus": 2}
    assert [(one["contender"], one["runs"], one["median"]) for one in found["figures"]] == [
        (OURS, [50_000, 70_000, 61_000], 61_000),
        ("peer", [100_000, 120_000, 90_000], 100_000),
    ]
    assert [(one["ratio"], one["won"], one["met"]) for one in found["comparisons"]] == [(0.61, False, True)]


def test_packages_of_the_bench_have_the_versions_of_the_others() -> None:
    both = [
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-bench.txt")
    ]
    shared = both[0].keys() & both[1].keys()
    assert "numpy" in shared
    assert {name: both[1][name] for name in shared} == {name: both[0][name] for name in shared}
