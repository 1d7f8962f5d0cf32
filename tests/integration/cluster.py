"""A Spark standalone cluster: a master and two workers, each in an empty folder, without the checkout."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import psutil
import pyspark

from tests.integration.api_server import free_port
from tests.integration.broker import eventually

_SPARK = Path(pyspark.__file__).parent
_EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
_STARTS_WITHIN_S = 60.0
WORKERS = 2


class Cluster:
    """Started by `start`, ended by `stop`, executors and all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._page = free_port(), free_port()
        self.master = f"spark://127.0.0.1:{self.port}"
        self._processes: list[psutil.Process] = []

    def start(self) -> None:
        self._spawn("master", "master.Master", "--port", str(self.port), "--webui-port", str(self._page))
        eventually(lambda: self._workers() is not None, "the master answers", _STARTS_WITHIN_S)
        for number in range(WORKERS):
            name, size = f"worker{number}", ("--cores", "1", "--memory", "1g")
            work = ("--work-dir", str(self.folder / name / "work"), "--webui-port", "0")
            self._spawn(name, "worker.Worker", *size, *work, self.master)
        eventually(lambda: self._workers() == WORKERS, "both workers are there", _STARTS_WITHIN_S)

    def stop(self) -> None:
        every = [child for one in self._processes for child in (*_children(one), one)]
        for process in every:
            if process.is_running():
                process.kill()
        psutil.wait_procs(every, 30)

    def executors(self) -> list[psutil.Process]:
        """The executors' JVMs, oldest first."""
        found = [child for one in self._processes for child in _children(one) if _EXECUTOR in _command(child)]
        return sorted(found, key=lambda process: process.create_time())

    def _spawn(self, name: str, what: str, *words: str) -> None:
        folder = self.folder / name
        folder.mkdir(parents=True)
        argv = [str(_SPARK / "bin/spark-class"), f"org.apache.spark.deploy.{what}", "--host", "127.0.0.1"]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADWATER_", "PYTHON", "PYSPARK_"))}
        env = kept | {"SPARK_HOME": str(_SPARK), "SPARK_DAEMON_MEMORY": "256m"}
        with (folder / "daemon.log").open("wb") as log:
            started = subprocess.Popen(
                [*argv, *words], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
            )
        self._processes.append(psutil.Process(started.pid))

    def _workers(self) -> int | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/json/", timeout=2) as answer:
                return int(json.load(answer)["aliveworkers"])
        except OSError:
            return None


def lacks_the_checkout(folder: Path) -> bool:
    """Whether the Python of the executors knows the packages, but nothing of ours, in an empty folder."""
    script = (
        "import importlib.util as u; print(u.find_spec('msgspec') and not u.find_spec('transformations'))"
    )
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=kept, capture_output=True, text=True, check=True
    )
    return found.stdout.strip() == "True"


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
