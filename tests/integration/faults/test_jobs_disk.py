"""The lake's disk is full in mid-stream: nothing stops for good, and with room again nothing is missing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.install import command
from tests.integration.broker import eventually
from tests.integration.job_process import ROOT
from tests.integration.jobs_harness import World, check, slice_of
from tests.integration.lake import committed

SIZE_MB = 48
_ARRIVES_WITHIN_S = 180.0


@pytest.fixture
def disk(world: World) -> Iterator[Path]:
    """The world's lake on a small disk of its own, in a mount namespace that the jobs are run in."""
    world.lake.mkdir()
    mount = f"mount -t tmpfs -o size={SIZE_MB}m none '{world.lake}' && echo ready && exec sleep infinity"
    holder = subprocess.Popen(
        [command("unshare"), "-Urm", "sh", "-c", mount], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "ready\n"
        inside = [
            command("nsenter"),
            "--preserve-credentials",
            "-U",
            "-m",
            "-t",
            str(holder.pid),
            f"--wd={ROOT}",
        ]
        world.command = [*inside, sys.executable, "-m", "jobs"]
        # The same folder, as it is seen from out here.
        world.lake = Path(f"/proc/{holder.pid}/root{world.lake}")
        yield world.lake
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()


def test_a_full_disk_is_an_outage_that_passes(world: World, disk: Path) -> None:
    world.send(slice_of(0, 20))
    job = world.start("run", "--domain", "leads")
    eventually(lambda: arrived(world), "the first leads are in PostgreSQL", _ARRIVES_WITHIN_S)
    filler = disk / "filler"
    fill(filler)
    world.send(slice_of(1, 20))
    eventually(lambda: restarts(job.log), "a query restarts for want of space", _ARRIVES_WITHIN_S)
    filler.unlink()
    world.send(slice_of(2, 20))
    eventually(lambda: arrived(world), "all leads are in PostgreSQL", _ARRIVES_WITHIN_S)
    job.terminate()
    ended = job.wait()
    assert ended.code == 0, ended.why
    world.done("run", "--domain", "leads", "--once", "--prove")
    check(world)


def fill(file: Path) -> None:
    with file.open("wb") as out:
        try:
            while True:
                out.write(b"\0" * (1 << 16))
                out.flush()
        except OSError:
            return


def restarts(log: Path) -> bool:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [line for line in lines if line["event"] == "query_stopped"] == []
    return any(line["event"] == "query_restarts" and "no space" in line["why"] for line in lines)


def arrived(world: World) -> bool:
    wanted = {(sent.tenant, sent.key) for sent in world.sent.values() if sent.outcome == "silver"}
    return committed(world.lake / "silver/leads") and world.postgres().keys() == wanted
