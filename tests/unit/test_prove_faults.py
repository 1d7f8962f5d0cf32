"""Who is started again, and who fails the proof; faults in their order; a stack apart from the usual one."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from headwater.errors import HeadwaterError
from local import demo_processes, places, prove_faults, prove_world
from local.demo_processes import Child
from local.prove_faults import Chaos, Supervised
from local.prove_plan import Fault, How
from local.server import reachable


class FakeChild:
    """A process that ends when a test says so."""

    def __init__(self, name: str, *_words: str, of: str) -> None:
        self.name = f"{of}-{name}"
        self.exit_code: int | None = None
        self.stops_with = 0

    def check(self) -> None:
        if self.exit_code is not None:
            raise HeadwaterError(f"{self.name} ended with exit code {self.exit_code}")

    def ask_to_stop(self) -> None:
        self.check()
        self.exit_code = self.stops_with

    def stop(self) -> int:
        return self.stops_with

    def crash(self) -> None:
        self.exit_code = -signal.SIGKILL

    def tail(self) -> str:
        return "its log"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Supervised]:
    monkeypatch.setattr(prove_faults, "Child", FakeChild)

    def start(excused: bool = True) -> Supervised:
        made = Supervised("driver", "jobs", "run", excused=lambda: excused)
        made.start()
        return made

    return start


def end(one: Supervised, code: int) -> None:
    vars(one.child)["exit_code"] = code


def test_what_ends_with_1_while_a_server_is_away_is_started_again(driver: Callable[..., Supervised]) -> None:
    one = driver()
    end(one, 1)
    one.tend()
    one.tend()
    assert [child.name for child in one.children] == ["prove-driver-1", "prove-driver-2"]
    assert one.restarts == 1


@pytest.mark.parametrize(("excused", "code"), [(False, 1), (True, 0), (True, 2), (True, 3), (True, -9)])
def test_what_ends_by_itself_otherwise_fails_the_proof(
    driver: Callable[..., Supervised], excused: bool, code: int
) -> None:
    one = driver(excused)
    end(one, code)
    with pytest.raises(HeadwaterError, match=f"exit code {code}"):
        one.tend()


@pytest.mark.parametrize("how", How)
def test_who_is_taken_away_is_not_missed_and_comes_back(driver: Callable[..., Supervised], how: How) -> None:
    one = driver()
    with one.away(how):
        assert one.child.exit_code is not None
        one.tend()
    one.tend()
    assert (len(one.children), one.restarts) == (2, 0)


def test_who_was_stopped_for_good_is_not_missed(driver: Callable[..., Supervised]) -> None:
    one = driver()
    one.stop()
    one.tend()
    assert len(one.children) == 1


def test_a_stop_that_does_not_end_with_0_fails_the_proof(driver: Callable[..., Supervised]) -> None:
    one = driver()
    vars(one.child)["stops_with"] = 1
    with pytest.raises(HeadwaterError, match="told to stop, and ended with 1"):
        one.stop()


def test_faults_come_in_their_order_and_a_word_ends_them(driver: Callable[..., Supervised]) -> None:
    one, told = driver(), []
    faults = [
        Fault(0, "driver", How.KILL, 0),
        Fault(0.01, "driver", How.STOP, 0),
        Fault(99, "driver", How.KILL, 0),
    ]
    stopping = threading.Event()
    chaos = Chaos(faults, {"driver": one}, told.append)
    threading.Timer(0.5, stopping.set).start()
    chaos.run(stopping)
    assert chaos.done == faults[:2]
    assert [line for line in told if "for" in line] == ["SIGKILL driver, for 0.0 s", "stop driver, for 0.0 s"]
    assert len(one.children) == 3


def test_a_crash_leaves_no_process_of_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "family.py").write_text(
        "import os, subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], process_group=0)\n"
        "print(inner.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(demo_processes, "ROOT", tmp_path)
    monkeypatch.setattr(demo_processes, "log_path", lambda name: tmp_path / f"{name}.log")
    child = Child("family", "family", of="prove")
    while not (pid := child.log.read_text().strip()):
        child.check()
    child.crash()
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    assert child.exit_code == -signal.SIGKILL


def test_the_proofs_ports_are_none_of_the_usual_ones_and_free(monkeypatch: pytest.MonkeyPatch) -> None:
    found = prove_world.moved_ports()
    assert {"HEADWATER_PORT_KAFKA", "HEADWATER_PORT_API", "HEADWATER_PORT_METRICS"} <= found.keys()
    assert len(set(found.values())) == len(found)
    taken = int(found["HEADWATER_PORT_REDIS"])
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", taken))
        holder.listen(1)
        assert reachable(taken)
        assert str(taken) not in prove_world.moved_ports().values()


def test_another_folder_for_the_state_is_named_by_the_environment(tmp_path: Path) -> None:
    code = "from local.places import data, state; print(state(), data('kafka'))"
    env = {**os.environ, places.STATE: str(tmp_path / "apart")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=places.ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "apart"), str(tmp_path / "apart" / "data" / "kafka")]
    assert (tmp_path / "apart").is_dir()
