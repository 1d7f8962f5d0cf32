"""Who may go on when many queries share a driver's cores."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from jobs import turns
from jobs.turns import Turns
from sinks.registry import SINKS

SOON_S = 30.0
A_WHILE_S = 0.05
LONG_S = 600.0


@dataclass
class Reader:
    name: str
    reads: tuple[str, ...] = ()
    every_s: float = 0.0
    writes: tuple[str, ...] = ()


INGEST = Reader("ingest")
REFINE = Reader("refine", ("bronze.x",))
BUILD = Reader("build", ("silver.x",))
DELIVER = Reader("deliver", ("gold.x",))


class Driver:
    """Turns of four queries, and the order in which those that wait are let go."""

    def __init__(self, places: int = 2) -> None:
        self.written: Counter[str] = Counter()
        self.turns = Turns(self.written, lambda: places)
        self.halted = False
        self.gone: list[str] = []
        self.changed = threading.Condition()

    def begin(self, reader: Reader) -> None:
        self.turns.begin(reader, lambda: self.halted)

    def batch(self, reader: Reader, *wrote: str) -> None:
        self.begin(reader)
        self.end(reader, *wrote)

    def end(self, reader: Reader, *wrote: str) -> None:
        self.written.update(wrote)
        self.turns.end(reader)

    def wait(self, *readers: Reader) -> None:
        """They come in this order, and all are there: each waits, or has gone."""
        for reader in readers:
            self._arrive(self.turns.wait, reader)

    def wait_to_begin(self, reader: Reader) -> None:
        """The same for a batch."""
        self._arrive(self.turns.begin, reader)

    def _arrive(self, ask: Callable[[Reader, Callable[[], bool]], float], reader: Reader) -> None:
        arrived = threading.Event()

        def halted() -> bool:
            arrived.set()  # who waits is asked this before each look
            return self.halted

        def go() -> None:
            ask(reader, halted)
            with self.changed:
                self.gone.append(reader.name)
                self.changed.notify_all()

        threading.Thread(target=go, daemon=True).start()
        assert arrived.wait(SOON_S)

    def went(self, *names: str) -> bool:
        """Whether just these have gone, in this order; waits a little for them."""
        self.count_gone(len(names))
        return self.gone == list(names)

    def count_gone(self, expected: int) -> int:
        """How many have gone; waits a little for these, and a moment for any that should not."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.gone) >= expected, SOON_S)
        time.sleep(A_WHILE_S)
        return len(self.gone)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time that a test does not set itself passes, however slow the machine."""
    monkeypatch.setattr(turns, "_LOOK_S", 0.01)
    for limit in ("_PLAN_S", "_BATCH_S", "_QUIET_S", "_MORE_S"):
        monkeypatch.setattr(turns, limit, LONG_S)


def test_a_query_waits_until_there_is_news_in_a_table_that_it_reads() -> None:
    driver = Driver()
    driver.batch(INGEST, "bronze.x")
    driver.wait(REFINE)
    assert driver.went("refine")  # it was not there when bronze was written
    driver.batch(REFINE, "silver.x")
    driver.wait(REFINE)
    assert driver.went("refine")
    driver.batch(INGEST, "ledger")
    assert driver.went("refine")
    driver.batch(INGEST, "bronze.x")
    assert driver.went("refine", "refine")


def test_what_a_batch_wrote_is_news_when_the_batch_has_ended() -> None:
    driver = Driver()
    driver.batch(INGEST, "bronze.x")
    driver.wait(REFINE)
    assert driver.went("refine")
    driver.wait(REFINE)
    driver.begin(INGEST)
    driver.written.update(["bronze.x"])
    assert driver.went("refine")
    driver.end(INGEST)
    assert driver.went("refine", "refine")


def test_the_query_furthest_from_the_sources_goes_first() -> None:
    driver = Driver(places=1)
    driver.begin(REFINE)
    driver.end(INGEST, "silver.x", "gold.x")
    driver.wait(INGEST, BUILD, DELIVER)
    assert driver.went()
    driver.end(REFINE)
    assert driver.went("deliver")
    driver.batch(DELIVER)
    assert driver.went("deliver", "build")
    driver.batch(BUILD)
    assert driver.went("deliver", "build", "ingest")


SILVER = Reader("silver", ("bronze.x",), writes=("silver.x",))
GOLD = Reader("gold", ("silver.x",), writes=("gold.x",))
BOTH = Reader("both", ("silver.x", "gold.x"))


def test_a_query_waits_for_more_of_what_it_reads_and_takes_it_at_once() -> None:
    driver = Driver()
    driver.begin(SILVER)
    driver.end(SILVER, "silver.x")
    driver.wait(GOLD, BOTH)
    assert driver.went("gold")  # and is at work
    driver.begin(GOLD)
    driver.end(GOLD, "gold.x")
    assert driver.went("gold", "both")
    # It has seen both: there is nothing more for it.
    driver.wait(BOTH)
    assert driver.went("gold", "both")


def test_it_waits_no_longer_than_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    driver.begin(SILVER)
    monkeypatch.setattr(turns, "_MORE_S", 0.0)
    driver.begin(GOLD)
    monkeypatch.setattr(turns, "_MORE_S", LONG_S)
    driver.end(SILVER, "silver.x")
    driver.wait(BOTH)
    assert driver.went()
    monkeypatch.setattr(turns, "_MORE_S", 0.0)
    assert driver.went("both")


def test_what_others_wait_for_is_handed_over_when_all_of_it_is_written() -> None:
    driver = Driver()
    gold = Reader("gold", ("silver.x",), writes=("gold.x", "gold.y"))
    driver.batch(gold, *gold.writes)
    driver.wait(DELIVER)
    assert driver.went("deliver")
    driver.batch(DELIVER)
    driver.begin(gold)
    driver.wait(DELIVER)
    driver.written.update(["gold.x"])
    assert driver.went("deliver")
    driver.written.update(["gold.y"])
    assert driver.went("deliver", "deliver")
    # That the batch ends, later, is no news again.
    driver.wait(DELIVER)
    driver.end(gold, "gold.z")
    assert driver.went("deliver", "deliver")


def test_of_queries_equally_far_from_the_sources_those_that_others_wait_for_go_first() -> None:
    driver = Driver(places=1)
    driver.begin(REFINE)
    driver.end(INGEST, "silver.x")
    driver.wait(BUILD)
    driver.wait(GOLD)
    driver.end(REFINE)
    assert driver.went("gold")


def test_a_slow_pace_goes_behind_all_others_until_its_time_is_over_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_UNHURRIED_S", A_WHILE_S)
    driver = Driver(places=1)
    slow = Reader("slow", ("ops.x",), every_s=LONG_S)
    driver.begin(REFINE)
    driver.end(INGEST, "ops.x")
    driver.wait(slow, INGEST)
    driver.end(REFINE)
    assert driver.went("ingest")
    driver.begin(INGEST)
    driver.wait(Reader("other"))
    slow.every_s = A_WHILE_S
    time.sleep(slow.every_s)
    driver.end(INGEST)
    assert driver.went("ingest", "slow")


def test_nobody_waits_for_what_comes_from_outside() -> None:
    driver = Driver()
    source = Reader("source", writes=("bronze.x",))
    driver.batch(source, "bronze.x")
    driver.begin(source)
    driver.wait(REFINE)
    assert driver.went("refine")


def test_of_queries_equally_far_from_the_sources_the_one_that_has_waited_longest_goes_first() -> None:
    driver = Driver(places=1)
    driver.begin(REFINE)
    driver.wait(Reader("ingest.b"), Reader("ingest.a"), Reader("ingest.c"))
    driver.end(REFINE)
    assert driver.went("ingest.b")
    driver.batch(Reader("ingest.b"))
    assert driver.went("ingest.b", "ingest.a")


@pytest.mark.parametrize("places", [1, 2, 3])
def test_no_more_batches_run_than_there_are_places(places: int) -> None:
    driver = Driver(places)
    driver.begin(REFINE)
    driver.end(INGEST, "silver.x", "gold.x")
    driver.wait(INGEST, BUILD, DELIVER)
    assert driver.count_gone(places - 1) == places - 1


@pytest.mark.parametrize("limit", ["_BATCH_S", "_PLAN_S"])
def test_a_query_that_takes_long_keeps_no_other_waiting(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, limit, 0.1)
    driver = Driver(places=1)
    if limit == "_BATCH_S":
        driver.begin(DELIVER)
    else:
        driver.wait(INGEST)
    driver.wait(INGEST)
    assert driver.went(*["ingest"] * (1 if limit == "_BATCH_S" else 2))


def test_a_batch_for_which_no_place_was_kept_waits_for_one_before_others_nearer_to_the_sources() -> None:
    driver = Driver(places=1)
    driver.begin(BUILD)
    driver.wait_to_begin(DELIVER)
    driver.wait(INGEST)
    driver.end(BUILD)
    assert driver.went("deliver")
    driver.end(DELIVER)
    assert driver.went("deliver", "ingest")


def test_what_was_written_before_a_batch_began_is_no_news_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LATE_S", 0.1)
    driver = Driver()
    driver.batch(INGEST, "bronze.x")
    time.sleep(0.2)
    driver.batch(REFINE)
    driver.wait(REFINE)
    assert driver.went()


def test_what_was_written_while_a_batch_was_planned_may_be_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LATE_S", LONG_S)
    driver = Driver()
    driver.batch(INGEST, "bronze.x")
    driver.batch(REFINE)
    driver.wait(REFINE)
    assert driver.went("refine")


def test_who_is_told_to_stop_waits_no_more() -> None:
    driver = Driver()
    driver.batch(INGEST, "bronze.x")
    driver.wait(REFINE)
    driver.wait(REFINE)
    driver.halted = True
    assert driver.went("refine", "refine")


def test_for_tables_that_others_write_nobody_waits() -> None:
    driver = Driver()
    driver.batch(INGEST, "bronze.x")
    driver.batch(DELIVER)
    driver.wait(DELIVER)
    assert driver.went("deliver")


def test_without_news_a_query_looks_for_itself_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    driver.batch(INGEST, "bronze.x")
    driver.wait(REFINE)
    driver.wait(REFINE)
    assert driver.went("refine")
    monkeypatch.setattr(turns, "_QUIET_S", 0.0)
    assert driver.went("refine", "refine")


def test_batches_of_a_query_begin_no_sooner_than_its_pace() -> None:
    slow = Reader("ingest", every_s=0.5)
    driver = Driver()
    began = time.monotonic()
    driver.batch(slow)
    driver.wait(slow)
    assert driver.went("ingest")
    assert time.monotonic() >= began + slow.every_s


@pytest.mark.parametrize("destination", SINKS)
def test_whatever_tables_a_destination_has_it_gets_its_turn(destination: tuple[str, str]) -> None:
    tables = tuple(route.table.full_name for route in SINKS[destination].routes)
    driver = Driver()
    driver.begin(Reader("deliver", tables))
    driver.end(Reader("deliver", tables), *tables)
    driver.wait(Reader("deliver", tables))
    assert driver.went("deliver")


def test_the_wait_says_how_long_it_was() -> None:
    driver = Driver()
    slow = Reader("ingest", every_s=0.2)
    driver.batch(slow)
    halted: Callable[[], bool] = lambda: False  # noqa: E731
    assert 0.1 <= driver.turns.wait(slow, halted) < SOON_S
