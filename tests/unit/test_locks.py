"""The two locks, each held against another process."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headwater.errors import LockedError
from headwater.locks import commit_lock, instance_lock

HOLDER = """
import sys
from headwater import locks
with getattr(locks, sys.argv[1])(sys.argv[2], sys.argv[3]):
    print("held", flush=True)
    sys.stdin.read()
"""
ASKER = """
import sys, time
from headwater import locks
print("asks", flush=True)
with locks.commit_lock(sys.argv[1], sys.argv[2]):
    print(time.monotonic_ns())
"""
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def held_elsewhere(kind: str, lake: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, kind, str(lake), name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        try:
            yield other
        finally:
            other.kill()


def test_a_second_instance_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        held_elsewhere("instance_lock", tmp_path, "refine.leads") as other,
        pytest.raises(LockedError, match=rf"refine\.leads runs already \(pid {other.pid}\)"),
        instance_lock(str(tmp_path), "refine.leads"),
    ):
        pass


def test_another_job_is_not_refused(tmp_path: Path) -> None:
    with (
        held_elsewhere("instance_lock", tmp_path, "refine.leads"),
        instance_lock(str(tmp_path), "ingest.leads"),
    ):
        pass


def test_a_killed_holder_leaves_nothing_behind(tmp_path: Path) -> None:
    with held_elsewhere("instance_lock", tmp_path, "refine.leads") as other:
        other.kill()
        other.wait()
        with instance_lock(str(tmp_path), "refine.leads"):
            pass


def test_the_lock_is_free_again_behind_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with instance_lock(str(tmp_path), "refine.leads"):
            pass


def test_a_commit_waits_for_its_turn(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ASKER, str(tmp_path), "silver.leads"]
    with commit_lock(str(tmp_path), "silver.leads"):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert other.stdout and other.stdout.readline() == "asks\n"
        time.sleep(0.3)  # in which it would have its turn, if it did not wait
        released = time.monotonic_ns()
    assert int(other.communicate(timeout=60)[0]) >= released  # one clock for all processes


def test_a_lake_on_an_object_store_has_no_lock_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with instance_lock("s3a://bucket/lake", "x"), commit_lock("s3a://bucket/lake", "x"):
        assert list(tmp_path.iterdir()) == []
