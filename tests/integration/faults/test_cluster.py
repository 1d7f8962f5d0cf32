"""`spark-submit.sh` on a standalone cluster of two workers: the same jobs, and executors that are killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.broker import eventually
from tests.integration.cluster import WORKERS, Cluster, lacks_the_checkout
from tests.integration.job_process import ROOT
from tests.integration.jobs_harness import Prove, Sent, World, check, dead, good, refused
from tests.integration.lake import committed
from tests.integration.outgoing import check_topics

_SMALL = "--conf spark.executor.memory=700m --conf spark.executor.cores=1 --conf spark.ui.enabled=false"
# A job begins when every worker has an executor, not when the first one has.
_ALL = (
    f"--conf spark.cores.max={WORKERS} --conf spark.scheduler.minRegisteredResourcesRatio=1"
    " --conf spark.scheduler.maxRegisteredResourcesWaitingTime=120s"
)
_ARRIVES_WITHIN_S = 240.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster")
    try:
        made.start()
        yield made
    finally:
        made.stop()


def slice_of(number: int) -> list[Sent]:
    fresh = [good("acme", f"s{number}.{n}") for n in range(60)]
    again = [good("acme", f"s{earlier}.3", "duplicate") for earlier in range(number + 1)]
    return [
        *fresh,
        *again,
        dead("acme", f"b{number}", "type_mismatch", source=5),
        refused("acme", f"n{number}"),
    ]


def test_executors_killed_in_mid_stream_lose_and_double_nothing(
    world: World, cluster: Cluster, prove: Prove, tmp_path: Path
) -> None:
    world.command = [str(ROOT / "spark-submit.sh")]
    world.env |= {"SPARK_MASTER": cluster.master, "PYSPARK_SUBMIT_ARGS": _SMALL}
    # As batches of a backlog are written: by tasks, on the executors.
    world.env["HEADWATER_STREAMS__SMALL_BATCHES"] = "spark"
    world.done("migrate")
    world.send(slice_of(0))
    world.done("ingest", "--domain", "leads", "--once")
    world.done("refine", "--domain", "leads", "--once")
    world.done("deliver", "--domain", "leads", "--to", "postgres", "--once")

    job = world.start("run", "--domain", "leads")
    first = {process.pid for process in eventually(lambda: all_of(cluster), "executors", _ARRIVES_WITHIN_S)}
    for number in range(1, 9):
        world.send(slice_of(number))
        if number in (4, 7):
            # Whatever it is doing: between these batches there is hardly a moment without a task.
            cluster.executors()[0].send_signal(signal.SIGKILL)
        time.sleep(3)
    eventually(lambda: arrived(world), "all leads are in PostgreSQL", _ARRIVES_WITHIN_S)
    assert not first & {process.pid for process in all_of(cluster)}
    job.terminate()
    ended = job.wait()
    assert ended.code == 0, ended.why
    world.done("run", "--domain", "leads", "--once")
    check(world)
    check_topics(world)
    prove(world)

    assert lacks_the_checkout(tmp_path)
    found = probed(cluster, tmp_path)
    executors = {re.search(r"/worker(\d)/work/app-[\d-]+/(\d+)$", where)[0] for where, _, _ in found}  # type: ignore[index]
    assert len(executors) == WORKERS
    assert {loaded for _, _, loaded in found} == {"True"}
    for where, module, _ in found:
        assert module.endswith("headwater.zip/transformations/classify.py")
        assert str(ROOT) not in module, where


def all_of(cluster: Cluster) -> list[object]:
    found = cluster.executors()
    return list(found) if len(found) == WORKERS else []


def arrived(world: World) -> bool:
    wanted = {(sent.tenant, sent.key) for sent in world.sent.values() if sent.outcome == "silver"}
    return committed(world.lake / "silver/leads") and world.postgres().keys() == wanted


def probed(cluster: Cluster, folder: Path) -> list[list[str]]:
    """What the probe says, run in an empty folder with the zip that was shipped."""
    script = folder / "probe.py"
    script.write_text((ROOT / "tests/integration/cluster_probe.py").read_text())
    options = f"{_SMALL} {_ALL} --py-files {ROOT / 'dist/headwater.zip'} pyspark-shell"
    env = os.environ | {"PYSPARK_SUBMIT_ARGS": options, "PYSPARK_PYTHON": sys.executable}
    argv = [sys.executable, str(script), cluster.master]
    ended = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return list(json.loads(ended.stdout.splitlines()[-1]))
