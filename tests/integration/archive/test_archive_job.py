"""`jobs archive` as a process: status line and exit codes, and kills between any two steps."""

import fcntl
import json
from pathlib import Path

import pytest

from tests.integration.archive.harness import HOUR, TEN, Lake, lead, noise
from tests.integration.broker import eventually

KILLED = -9


def fill(lake: Lake) -> None:
    """Two hours, whose first has several files."""
    lake.configure(file_bytes=1 << 20, memory_bytes=1 << 20)
    for first in range(0, 3_000, 500):
        lake.arrive(TEN, noise(first, 500), partition=first // 500 % 2)
    lake.arrive(TEN + HOUR, [lead(1)])


def test_the_status_line_counts_and_a_second_run_has_nothing_to_do(lake: Lake) -> None:
    fill(lake)
    first = lake.start("--once").wait()
    assert first.code == 0, first.why
    assert (first.status["rows_in"], first.status["rows_out"]) == (3_001, 3_001)
    found = first.status["archive"]
    assert found["hours"] == 2 and found["files"] >= 3
    assert found["bytes"] == lake.manifest(TEN)["bytes"] + lake.manifest(TEN + HOUR)["bytes"]
    before = lake.everything()
    again = lake.start("--once").wait()
    assert (again.code, again.status["rows_in"], lake.everything()) == (0, 0, before)


@pytest.mark.parametrize(
    "point",
    ["task:1", "task:2", "before_write", "after_write", "before_commit", "task:7", "after_write:2"],
)
def test_a_killed_run_is_made_good_by_the_next(lake: Lake, point: str) -> None:
    fill(lake)
    killed = lake.start("--once", HEADWATER_FAILPOINT=f"archive.leads:{point}").wait()
    assert killed.code == KILLED, killed.why
    lake.archive()
    assert [(p, n) for p in (0, 1) for n in range(1_500)] == lake.places(TEN)
    assert lake.places(TEN + HOUR) == [(0, 1_500)]
    named = {f"{file['name']}" for file in lake.manifest(TEN)["files"]} | {"_manifest.json"}
    assert {path.name for path in lake.hour(TEN).iterdir()} == named
    assert lake.verify()["rows"] == 3_001


def test_a_longer_attempt_that_was_killed_leaves_no_file_beside_a_shorter_one(lake: Lake) -> None:
    fill(lake)
    lake.start("--once", HEADWATER_FAILPOINT="archive.leads:after_write").wait()
    longer = {path.name for path in lake.hour(TEN).iterdir()}
    lake.configure(file_bytes=64 << 20)
    lake.archive()
    assert len(longer) > 1
    assert {path.name for path in lake.hour(TEN).iterdir()} == {"part-00000.parquet", "_manifest.json"}


def test_a_damaged_archive_exits_3_and_names_what_is_wrong(lake: Lake) -> None:
    fill(lake)
    lake.archive()
    sound = lake.start("--verify").wait()
    assert (sound.code, sound.status["verified"]["hours"]) == (0, 2), sound.why
    (lake.hour(TEN) / "part-00001.parquet").unlink()
    broken = lake.start("--verify").wait()
    assert broken.code == 3, broken.why
    assert "lead.ingest 2026-03-01T10:00:00.000Z: part-00001.parquet is missing" in broken.status["error"]


def test_a_second_instance_exits_4(lake: Lake) -> None:
    lake.arrive(TEN, [lead(1)])
    lock = Path(lake.settings.lake) / "_locks" / "archive.leads.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = lake.start("--once").wait()
    assert ended.code == 4, ended.why
    assert lake.everything() == {}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--from", "yesterday"), "is no hour"),
        (("--from", "2026-03-01T11", "--once"), "comes first"),
        (("--from", "2026-03-01T11", "--until", "2026-03-01T10"), "later than --until"),
        (("--domain", "nothing", "--once"), "no contract belongs to domain"),
    ],
)
def test_options_that_cannot_be_met_exit_2(lake: Lake, words: tuple[str, ...], why: str) -> None:
    lake.arrive(TEN, [lead(1)])
    ended = lake.start(*words).wait()
    assert (ended.code, why in ended.status["error"]) == (2, True), ended.why


def test_without_once_it_goes_on_until_it_is_told_to_stop(lake: Lake) -> None:
    lake.arrive(TEN, [lead(1)])
    job = lake.start(HEADWATER_ARCHIVE__EVERY_S="0.1")
    eventually(lambda: (lake.hour(TEN) / "_manifest.json").exists(), "the first hour is archived")
    lake.arrive(TEN + HOUR, [lead(2)])
    eventually(lambda: (lake.hour(TEN + HOUR) / "_manifest.json").exists(), "the second hour is archived")
    job.terminate()
    ended = job.wait()
    assert (ended.code, ended.status["archive"]["hours"]) == (0, 2), ended.why


def test_a_dry_run_shows_the_plan_and_writes_nothing(lake: Lake) -> None:
    lake.arrive(TEN, [lead(1)])
    ended = lake.start("--dry-run", "--until", "2026-03-01T10").wait()
    plan = json.loads(ended.out[ended.out.index('{\n  "plan"') :].rsplit("\n{", 1)[0])["plan"]
    assert (ended.code, plan["job"], plan["last_hour"]) == (0, "archive", "2026-03-01T10")
    assert not lake.root.exists()


def test_the_same_run_id_is_done_once(lake: Lake) -> None:
    lake.arrive(TEN, [lead(1)])
    assert lake.start("--once", "--run-id", "r1").wait().status["rows_out"] == 1
    lake.arrive(TEN + HOUR, [lead(2)])
    assert lake.start("--once", "--run-id", "r1").wait().status["status"] == "noop"
    assert lake.start("--once", "--run-id", "r2").wait().status["rows_out"] == 1
