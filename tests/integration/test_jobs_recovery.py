"""Checkpoints that are lost, one after another on one lake, alone and together with a crash."""

from collections.abc import Callable

from tests.integration.jobs_harness import Sent, World, check, dead, good, refused

Prove = Callable[[World], dict[str, int]]


def slice_of(number: int) -> list[Sent]:
    """New leads, one from every earlier slice again, a broken one, a refusal."""
    fresh = [good("acme", f"s{number}.{n}") for n in range(10)]
    again = [good("acme", f"s{earlier}.3", "duplicate") for earlier in range(number + 1)]
    faulty = dead("globex", f"b{number}", "rule:pattern", payload__email="nobody")
    return [*fresh, *again, faulty, refused("globex", f"n{number}")]


def test_lost_checkpoints_lose_and_double_nothing(world: World, prove: Prove) -> None:
    losses = [(), ("refine.leads",), ("ingest.leads",), ("ingest.leads", "refine.leads")]
    for number, lost in enumerate(losses):
        world.send(slice_of(number))
        world.forget(*lost)
        world.done("run", "--domain", "leads", "--once")
        check(world)
    prove(world)


def test_a_checkpoint_lost_after_a_crash_between_table_and_ledger_doubles_nothing(
    world: World, prove: Prove
) -> None:
    """The very first batch is the hardest: the ledger does not even know of an earlier checkpoint."""
    world.send(slice_of(0))
    dies(world, "refine.leads:after_write")
    world.forget("refine.leads")
    dies(world, "refine.leads:before_write")
    world.done("run", "--domain", "leads", "--once")
    check(world)
    for number, query in enumerate(("refine.leads", "ingest.leads"), 1):
        world.send(slice_of(number))
        dies(world, f"{query}:after_write")
        world.forget(query)
        world.done("run", "--domain", "leads", "--once")
        check(world)
    prove(world)


def dies(world: World, failpoint: str) -> None:
    ended = world.run("run", "--domain", "leads", "--once", HEADWATER_FAILPOINT=failpoint)
    assert ended.code == -9, f"{failpoint}: {ended.why}"
