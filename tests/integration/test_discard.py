"""Letters are discarded while others write, and by a process that is killed. Without Spark."""

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from headwater import delta_log
from headwater.locks import commit_lock
from headwater.settings import ROOT, Settings
from headwater.tables import append_rows, table_path
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS, JOB_RUNS
from sources.letters.newest import newest
from sources.letters.settle import discard, new_ones
from sources.letters.wanted import Wanted
from tests.integration.uploads.imports import NoSpark
from tests.letters import identity, lake_settings, letter, make_lake, rows, statuses

TABLE = DEAD_LETTERS.full_name
BATCHES, BATCH = 30, 20


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return lake_settings(tmp_path / "lake")


def write(settings: Settings) -> None:
    """Batches as a stream's, each by its mark and under the commit lock."""
    for number in range(BATCHES):
        first = 1000 + number * BATCH
        batch = pa.Table.from_pylist([letter(n) for n in range(first, first + BATCH)], schema=LETTERS)
        append_rows(cast(Any, NoSpark()), batch, settings, TABLE, ("query", number))


def discard_all(settings: Settings) -> int:
    """Again and again, until nothing of the first letters is new."""
    done = 0
    while ids := new_ones(settings, Wanted(stream="crm.leads")):
        done += discard(settings, ids[:7])
    return done


def look(settings: Settings) -> set[int]:
    """How many letters there are of those that were there first, at each look."""
    return {len(newest(settings, Wanted(stream="crm.leads"), 500)) for _ in range(20)}


def test_two_discard_while_another_writes_and_a_third_reads(settings: Settings) -> None:
    make_lake(settings, *[letter(n, stream="crm.leads") for n in range(60)])
    with ThreadPoolExecutor(4) as pool:
        writer, reader = pool.submit(write, settings), pool.submit(look, settings)
        counts = [pool.submit(discard_all, settings) for _ in range(2)]
        assert sum(count.result() for count in counts) == 60
        assert writer.result() is None and reader.result() == {60}
    found = rows(settings)
    assert Counter(row["status"] for row in found) == {"discarded": 60, "new": BATCHES * BATCH}
    assert Counter(row["dead_letter_id"] for row in found).most_common(1)[0][1] == 1
    assert delta_log.committed(table_path(settings, TABLE), f"query.{TABLE}") == BATCHES - 1


def words(settings: Settings, *more: str) -> list[str]:
    return [sys.executable, "-m", "jobs", "dead-letters", "discard", "--status", "new", *more]


def environment(settings: Settings) -> dict[str, str]:
    """Without Java: who asked for a Spark session would fail."""
    return {"PATH": "/nowhere", "HEADWATER_LAKE": settings.lake, "LOGNAME": "grace", "TERM": "dumb"}


def recorded(settings: Settings) -> int:
    return delta_log.count(table_path(settings, JOB_RUNS.full_name))


def test_killed_before_its_commit_it_has_changed_nothing_and_the_next_one_does_it(settings: Settings) -> None:
    make_lake(settings, letter(0), letter(1))
    order = words(settings, "--yes", "--why", "a test")
    with commit_lock(settings.lake_root, TABLE):
        waiting = subprocess.Popen(order, cwd=ROOT, env=environment(settings))
        end = time.monotonic() + 60
        while not recorded(settings) and waiting.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        waiting.kill()
        assert waiting.wait() == -9
    assert recorded(settings) == 1 and set(statuses(settings).values()) == {"new"}
    done = subprocess.run(order, cwd=ROOT, env=environment(settings), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2 letters are discarded\n"), done.stderr
    assert recorded(settings) == 2 and statuses(settings) == {0: "discarded", 1: "discarded"}


def test_what_was_merged_is_appended_to_and_compacted_like_any_other(settings: Settings) -> None:
    make_lake(settings, letter(0), letter(1))
    discard(settings, [identity(0)])
    write(settings)
    path = table_path(settings, TABLE)
    assert delta_log.compact(path, 1 << 20, 2) > 1
    assert discard(settings, [identity(1), identity(1003)]) == 2
    found = statuses(settings)
    assert len(found) == 2 + BATCHES * BATCH and list(found.values()).count("discarded") == 3
