"""Files of checkpoints that a crash of the disk left cut or garbled, of the queries that fill the lake: each
is told as what it is, and with a new checkpoint nothing is lost or doubled."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pyspark.sql import SparkSession

from headwater.errors import HeadwaterError, SetupError
from jobs.audit import audit
from jobs.ingest import Ingest
from jobs.queries import Context, Query
from jobs.refine import Refine
from jobs.runtime import Runtime
from tests.integration.jobs_harness import World, slice_of

QUERIES: dict[str, Callable[[Context], Query]] = {
    "ingest.leads": lambda context: Ingest(context, "leads"),
    "refine.leads": lambda context: Refine(context, "leads"),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "halved": lambda held: held[: len(held) // 2],
    "cut": lambda held: held[:-2],
    "garbled": lambda held: b"\0" * len(held),
    # What a commit says in it is nothing that is needed.
    "without its last line": lambda held: held.rpartition(b"\n")[0],
}
REMEDY = "see docs/operations.md, lost checkpoint"


def test_a_damaged_file_is_told_with_the_remedy_and_without_it_nothing_is_lost(
    world: World, spark: SparkSession
) -> None:
    for number in range(2):
        world.send(slice_of(number))
        for query in QUERIES:
            run(world, spark, query)
    told = {
        f"{query}/{file.name} {folder} {damage}": told_of(world, spark, query, file, DAMAGES[damage])
        for query in QUERIES
        for folder, file in files(world.lake / "_checkpoints" / query)
        for damage in DAMAGES
        if (folder, damage) != ("commits", "without its last line")
    }
    assert len(told) == len(QUERIES) * (3 * len(DAMAGES) - 1)
    assert {which: fault for which, fault in told.items() if REMEDY not in fault} == {}

    world.send(slice_of(2))
    for query in QUERIES:
        world.forget(query)
        run(world, spark, query)
    audit(Context(spark, world.settings, "test"), "leads")
    wanted = [place for place, sent in world.sent.items() if sent.outcome == "silver"]
    assert sorted(world.places("silver.leads")) == sorted(wanted)
    assert sorted(world.places("bronze.leads")) == sorted(world.sent)


def files(checkpoint: Path) -> Iterator[tuple[str, Path]]:
    """The newest file of each kind, by the name of its folder."""
    for folder in ("offsets", "commits"):
        named = [file for file in (checkpoint / folder).iterdir() if file.name.isdecimal()]
        yield folder, max(named, key=lambda file: int(file.name))
    yield "", checkpoint / "metadata"


def told_of(
    world: World, spark: SparkSession, query: str, file: Path, damage: Callable[[bytes], bytes]
) -> str:
    """What a run says while the file is damaged; it changes nothing."""
    checkpoint, kept = world.lake / "_checkpoints" / query, world.folder / "kept"
    shutil.copytree(checkpoint, kept)
    file.write_bytes(damage(file.read_bytes()))
    try:
        run(world, spark, query)
        return "nothing"
    except SetupError as fault:
        return str(fault)
    except HeadwaterError as fault:
        return f"no fault of the set-up: {fault}"
    finally:
        shutil.rmtree(checkpoint)
        shutil.move(kept, checkpoint)


def run(world: World, spark: SparkSession, query: str) -> None:
    context = Context(spark, world.settings, "test")
    Runtime(context, once=True).run([QUERIES[query](context)])
