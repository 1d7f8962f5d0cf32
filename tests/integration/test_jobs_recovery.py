"""Checkpoints that are lost, one after another on one lake, alone and together with a crash."""

import shutil
from pathlib import Path

import pytest

from headwater.errors import DisagreeError
from tests.integration.jobs_harness import Here, Prove, Sent, World, check, dead, good, refused


def slice_of(number: int) -> list[Sent]:
    """New leads, one from every earlier slice again, a broken one, a refusal."""
    fresh = [good("acme", f"s{number}.{n}") for n in range(10)]
    again = [good("acme", f"s{earlier}.3", "duplicate") for earlier in range(number + 1)]
    faulty = dead("globex", f"b{number}", "rule:pattern", payload__email="nobody")
    return [*fresh, *again, faulty, refused("globex", f"n{number}")]


def test_lost_checkpoints_lose_and_double_nothing(world: World, here: Here, prove: Prove) -> None:
    losses = [(), ("refine.leads",), ("ingest.leads",), ("ingest.leads", "refine.leads")]
    for number, lost in enumerate(losses):
        world.send(slice_of(number))
        world.forget(*lost)
        here(world, "run")
        check(world)
    prove(world)


def test_a_checkpoint_lost_after_a_crash_between_table_and_ledger_doubles_nothing(
    world: World, here: Here, prove: Prove
) -> None:
    """The very first batch is the hardest: the ledger does not even know of an earlier checkpoint."""
    world.send(slice_of(0))
    dies(world, "refine.leads:after_write")
    world.forget("refine.leads")
    dies(world, "refine.leads:before_write")
    here(world, "run")
    check(world)
    for number, query in enumerate(("refine.leads", "ingest.leads"), 1):
        world.send(slice_of(number))
        dies(world, f"{query}:after_write")
        world.forget(query)
        here(world, "run")
        check(world)
    prove(world)


def test_an_old_copy_of_ingests_checkpoint_is_refused_before_it_passes_over_a_record(
    world: World, here: Here, prove: Prove
) -> None:
    """Batches of an old copy have numbers that the table knows already, and other records."""
    checkpoint, copy = world.lake / "_checkpoints" / "ingest.leads", world.lake / "copy"
    for number in range(3):
        world.send(slice_of(number))
        here(world, "ingest")
        if number == 0:
            shutil.copytree(checkpoint, copy)
    world.forget("ingest.leads")
    shutil.move(copy, checkpoint)
    world.send(slice_of(3))
    stopped = world.run("ingest", "--domain", "leads", "--once")
    assert stopped.code == 2, stopped.why
    assert "bronze.leads has batch 2 of a query that is at 1: an old copy" in stopped.status["error"]
    world.forget("ingest.leads")
    here(world, "ingest")
    # The copy is as good as the original but for its last batch, whose number then has more records.
    for folder in ("offsets", "commits"):
        max((checkpoint / folder).iterdir(), key=number_of).unlink()
    world.send(slice_of(4))
    with pytest.raises(
        DisagreeError, match=r"bronze\.leads has a part only of the batch that was begun last"
    ):
        here(world, "ingest")
    world.forget("ingest.leads")
    here(world, "run")
    check(world)
    prove(world)


def number_of(file: Path) -> int:
    return int(file.name) if file.name.isdecimal() else -1


def dies(world: World, failpoint: str) -> None:
    ended = world.run("run", "--domain", "leads", "--once", HEADWATER_FAILPOINT=failpoint)
    assert ended.code == -9, f"{failpoint}: {ended.why}"
