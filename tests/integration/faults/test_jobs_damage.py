"""Checkpoints that a crash of the disk left cut or garbled: each is named, and a new one loses nothing."""

import json
from pathlib import Path

import pytest

from headwater.errors import SetupError
from tests.integration.jobs_harness import Here, Prove, World, check, slice_of
from tests.integration.outgoing import check_topics

REMEDY = "see docs/operations.md, lost checkpoint"


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def garbled(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


# query, folder of its checkpoint, what happens to the newest file there
DELIVERIES = [
    ("deliver.leads.postgres", "offsets", emptied),
    ("deliver.leads.elasticsearch", "offsets", halved),
    ("deliver.leads.normalized", "commits", garbled),
]
# Dead letters are delivered last, so a run that stops before does not come to them.
LETTERS = "deliver.leads.dlq"


def test_a_damaged_checkpoint_is_named_and_without_it_nothing_is_lost(
    world: World, here: Here, prove: Prove
) -> None:
    world.send(slice_of(0))
    here(world, "run")
    for query, folder, damage in DELIVERIES:
        damage(newest(world.lake / "_checkpoints" / query / folder))
    halved(newest(world.lake / "_checkpoints" / LETTERS))
    world.send(slice_of(1))
    stopped = world.run("run", "--domain", "leads", "--once")
    assert stopped.code == 2, stopped.why
    lines = [json.loads(line) for line in stopped.log.read_text().splitlines() if line.startswith("{")]
    told = {line["query"]: line["why"] for line in lines if line["event"] == "query_stopped"}
    assert told.keys() == {query for query, _, _ in DELIVERIES}
    assert [why for why in told.values() if REMEDY not in why] == []

    with pytest.raises(SetupError, match=REMEDY):
        here(world, "deliver", to="dlq")

    world.forget(*told, LETTERS)
    here(world, "run")
    check(world)
    check_topics(world)

    for file in (world.lake / "_checkpoints/refine.leads/state").rglob("*.*"):
        if file.suffix in (".changelog", ".zip", ".delta"):
            halved(file)
    world.send(slice_of(2))
    with pytest.raises(SetupError, match=REMEDY):
        here(world, "run")
    world.forget("refine.leads")
    here(world, "run")
    check(world)
    prove(world)


def newest(folder: Path) -> Path:
    files = [file for file in folder.iterdir() if file.is_file() and not file.name.startswith(".")]
    return max(files, key=lambda file: (file.stat().st_mtime, file.name))
