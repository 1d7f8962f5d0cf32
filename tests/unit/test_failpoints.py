"""Fail-points: only the named query, point and time, and only in the local environment."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater import failpoints
from headwater.failpoints import fail_at, fail_during

Kills = list[str]
Arm = Callable[..., None]
CHILD = """
import os, subprocess, sys
from headwater.failpoints import arm, fail_at
arm("local")
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
fail_at("refine.leads", "before_write")
print("survived", flush=True)
"""
# As a Python worker does when its JVM is gone: it was listed, and has ended before it can be killed.
CHILD_THAT_ENDS_BETWEEN = (
    """
import psutil
listed = psutil.Process.children
def children(process, recursive):
    found = listed(process, recursive)
    child.kill()
    child.wait()
    return found
psutil.Process.children = children
"""
    + CHILD
)


def gone(pid: int, within_s: float) -> bool:
    """Whether the process ends; one that nobody has reaped yet has ended, too."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Kills:
    """What would have been killed."""
    found: Kills = []
    monkeypatch.setattr(failpoints, "kill_now", lambda: found.append("killed"))
    failpoints._met.clear()  # noqa: SLF001 - a count per process, and each test is a process of its own in spirit
    return found


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Arm:
    """Set the fail-point."""

    def to(point: str, env: str = "local") -> None:
        monkeypatch.setenv("HEADWATER_FAILPOINT", point)
        failpoints.arm(env)

    return to


def test_nothing_happens_without_the_variable(kills: Kills, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWATER_FAILPOINT", raising=False)
    fail_at("refine.leads", "before_write")
    assert kills == []


@pytest.mark.parametrize(
    ("query", "point", "killed"),
    [
        ("refine.leads", "before_write", True),
        ("refine.leads", "after_write", False),
        ("refine", "before_write", False),
        ("ingest.leads", "before_write", False),
    ],
)
def test_only_the_named_place_kills(kills: Kills, arm: Arm, query: str, point: str, killed: bool) -> None:
    arm("refine.leads:before_write")
    fail_at(query, point)
    assert bool(kills) is killed


def test_the_nth_time_kills_and_no_other(kills: Kills, arm: Arm) -> None:
    arm("refine.leads:before_write:3")
    seen = []
    for _ in range(4):
        fail_at("refine.leads", "after_write")
        fail_at("refine.leads", "before_write")
        seen.append(len(kills))
    assert seen == [0, 0, 1, 1]


def test_a_query_name_with_three_parts_is_understood(kills: Kills, arm: Arm) -> None:
    arm("deliver.leads.postgres:in_transaction")
    fail_at("deliver.leads.postgres", "in_transaction")
    assert kills == ["killed"]


@pytest.mark.parametrize("env", ["production", "staging"])
def test_only_the_local_environment_has_fail_points(kills: Kills, arm: Arm, env: str) -> None:
    arm("refine.leads:before_write", env)
    fail_at("refine.leads", "before_write")
    assert kills == []


def test_a_kill_beside_the_work_waits_until_the_work_has_begun(kills: Kills, arm: Arm) -> None:
    arm("refine.leads:task")
    answers = iter([False, False, True])
    asked: list[bool] = []

    def busy() -> bool:
        asked.append(next(answers))
        return asked[-1]

    fail_during("refine.leads", "task", busy)
    for _ in range(200):
        if kills:
            break
        signal.sigtimedwait([], 0.01)
    assert (asked, kills) == ([False, False, True], ["killed"])


@pytest.mark.parametrize("program", [CHILD, CHILD_THAT_ENDS_BETWEEN], ids=["lives", "ends between"])
def test_a_real_kill_takes_the_children_along(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setenv("HEADWATER_FAILPOINT", "refine.leads:before_write")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == -signal.SIGKILL
    assert "survived" not in done.stdout
    assert gone(int(done.stdout), within_s=10)
