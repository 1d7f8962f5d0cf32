"""What of a table's log is deleted: nothing that a query, a reader or the table itself still needs."""

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from headwater import delta_log
from headwater.errors import SetupError
from headwater.log_trim import behind, trim, unread

COMMITS = 2 * delta_log.CHECKPOINT_EVERY + 10
LAST_CHECKPOINT = 2 * delta_log.CHECKPOINT_EVERY


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table with checkpoints of its log at 50 and 100 and ten more commits."""
    path = str(tmp_path_factory.mktemp("lake") / "numbers")
    rows = pa.table({"n": pa.array([1], pa.int64())})
    delta_log.create(path, rows.schema, [], {"delta.checkpointInterval": delta_log.NO_CHECKPOINTS})
    for _ in range(COMMITS):
        delta_log.append_rows(rows, path)
    return path


@pytest.fixture
def table(grown: str, tmp_path: Path) -> str:
    """A copy of that table in a lake of its own."""
    path = tmp_path / "bronze" / "numbers"
    shutil.copytree(grown, path)
    return str(path)


def query_at(lake: Path, name: str, table_id: str, *ends: int, committed: bool = True) -> None:
    """A query's checkpoint as Spark leaves it: where its last batches ended."""
    offsets, commits = (Path(lake, "_checkpoints", name, part) for part in ("offsets", "commits"))
    for folder in (offsets, commits):
        folder.mkdir(parents=True)
    for batch, end in enumerate(ends):
        (offsets / str(batch)).write_text(position(table_id, end))
        (offsets / f".{batch}.crc").write_text("")
        if committed:
            (commits / str(batch)).write_text("v1\n{}")


def position(table_id: str, version: int) -> str:
    at = {"sourceVersion": 1, "reservoirId": table_id, "reservoirVersion": version, "index": -1}
    return "v1\n{}\n" + json.dumps(at)


def versions(path: str) -> list[int]:
    return sorted(int(file.stem) for file in Path(path, "_delta_log").glob("*.json"))


def test_entries_before_the_last_checkpoint_are_deleted(table: str, tmp_path: Path) -> None:
    assert trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0) > 0
    assert versions(table) == list(range(LAST_CHECKPOINT, COMMITS + 1))
    assert [f.name[:20] for f in Path(table, "_delta_log").glob("*.checkpoint.*")] == [f"{100:020}"]


def test_the_trimmed_table_reads_and_grows_as_before(table: str, tmp_path: Path) -> None:
    trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0)
    assert len(DeltaTable(table).file_uris()) == COMMITS
    delta_log.append_rows(pa.table({"n": pa.array([1], pa.int64())}), table, ("query", 3))
    assert delta_log.committed(table, "query") == 3


def test_recent_entries_stay(table: str, tmp_path: Path) -> None:
    assert trim(str(tmp_path), table, delta_log.table_id(table), kept_s=3600) == 0
    before_51 = sorted(Path(table, "_delta_log").glob("*.json"))[:52]
    for file in before_51:
        os.utime(file, (0, time.time() - 7200))
    trim(str(tmp_path), table, delta_log.table_id(table), kept_s=3600)
    assert versions(table) == list(range(50, COMMITS + 1))


@pytest.mark.parametrize(("at", "first_left"), [(3, 0), (50, 0), (51, 50), (100, 50), (101, 100), (105, 100)])
def test_what_a_query_reads_when_it_starts_again_stays(
    table: str, tmp_path: Path, at: int, first_left: int
) -> None:
    query_at(tmp_path, "refine.numbers", delta_log.table_id(table), 2, at, 109)
    query_at(tmp_path, "deliver.numbers", delta_log.table_id(table), 108, 109)
    query_at(tmp_path, "deliver.letters", "another-table", 1, 1)
    trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0)
    assert versions(table) == list(range(first_left, COMMITS + 1))


@pytest.mark.parametrize("committed", [True, False])
def test_a_query_in_or_behind_its_first_batch_counts_too(table: str, tmp_path: Path, committed: bool) -> None:
    query_at(tmp_path, "refine.numbers", delta_log.table_id(table), 60, committed=committed)
    trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0)
    assert versions(table)[0] == 50


def test_while_a_querys_checkpoint_is_broken_nothing_is_deleted(table: str, tmp_path: Path) -> None:
    query_at(tmp_path, "refine.numbers", delta_log.table_id(table), 60)
    Path(tmp_path, "_checkpoints", "refine.numbers", "offsets", "0").write_text('v1\n{}\n{"sourceV')
    assert trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0) == 0
    assert len(versions(table)) == COMMITS + 1


@pytest.mark.parametrize("part", ["commits", "offsets"])
def test_a_checkpoint_that_may_not_be_read_is_a_fault_and_no_query_that_reads_nothing(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    query_at(tmp_path, "refine.numbers", delta_log.table_id(table), 60)
    for way in ("listdir", "scandir"):  # root may list what others may not
        monkeypatch.setattr(os, way, refusing(getattr(os, way), part))
    assert trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0) == 0
    with pytest.raises(SetupError, match=r"refine\.numbers cannot be read: PermissionError"):
        unread(str(tmp_path), delta_log.table_id(table))


def refusing(really: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    """The same for all folders but those of this name."""

    def listed(folder: Any) -> Any:
        if Path(folder).name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(folder)

    return listed


def test_a_query_whose_commits_are_lost_keeps_all(table: str, tmp_path: Path) -> None:
    query_at(tmp_path, "refine.numbers", delta_log.table_id(table), 60, 105, 109)
    for file in Path(tmp_path, "_checkpoints", "refine.numbers").glob("*/[01]"):
        file.unlink()
    Path(tmp_path, "_checkpoints", "refine.numbers", "commits", "2").unlink()
    assert trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0) == 0


@pytest.mark.parametrize(
    "position", ["{}", '{"reservoirId": "%s"}', '{"reservoirId": "%s", "reservoirVersion": null}']
)
def test_a_position_of_another_form_never_fails_a_batch(table: str, tmp_path: Path, position: str) -> None:
    known = delta_log.table_id(table)
    query_at(tmp_path, "refine.numbers", known, 60)
    text = "v1\n{}\n" + position.replace("%s", known)
    Path(tmp_path, "_checkpoints", "refine.numbers", "offsets", "0").write_text(text)
    assert (trim(str(tmp_path), table, known, kept_s=0) > 0) == (position == "{}")


def test_an_old_handle_of_another_process_goes_on_with_a_trimmed_log(table: str, tmp_path: Path) -> None:
    rows = pa.table({"n": pa.array([1], pa.int64())})
    other = DeltaTable(table)
    for _ in range(delta_log.CHECKPOINT_EVERY):
        delta_log.append_rows(rows, table)
    assert trim(str(tmp_path), table, delta_log.table_id(table), kept_s=0)
    other.update_incremental()
    assert (other.version(), len(other.file_uris())) == (COMMITS + 50, COMMITS + 50)


@pytest.mark.parametrize(
    ("ends", "committed", "is_behind"),
    [((4, 9), True, False), ((4, 8), True, True), ((9,), False, True), ((), True, False)],
    ids=["past it", "at it", "in its first batch", "never run"],
)
def test_a_query_is_behind_until_a_batch_that_is_done_has_passed_the_version(
    tmp_path: Path, ends: tuple[int, ...], committed: bool, is_behind: bool
) -> None:
    query_at(tmp_path, "deliver", "mine", *ends, committed=committed)
    assert behind(str(tmp_path), "mine", 8, ["deliver", "another"]) == ["deliver"] * is_behind


def test_tables_of_which_a_query_has_read_nothing_yet_are_passed_over(tmp_path: Path) -> None:
    query_at(tmp_path, "deliver", "other", 3)
    file = tmp_path / "_checkpoints" / "deliver" / "offsets" / "0"
    file.write_text(file.read_text() + "\n-\n" + position("mine", 7).splitlines()[-1])
    assert behind(str(tmp_path), "mine", 8, ["deliver"]) == ["deliver"]
    assert behind(str(tmp_path), "mine", 6, ["deliver"]) == []
