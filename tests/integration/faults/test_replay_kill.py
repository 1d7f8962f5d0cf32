"""`jobs replay` as a process that is killed: what was sent is sent once, what was not is sent by the next."""

import json

from tests.integration.jobs_harness import Here, Prove, World, dead, good

KILLED = -9
WHY = ("--why", "the form had no box for it")


def test_a_replay_that_is_killed_is_done_to_the_end_by_the_same_command(
    world: World, here: Here, prove: Prove
) -> None:
    broken = [dead("acme", f"r{number}", "missing_required", payload__consent=None) for number in range(5)]
    world.send([good("acme", "a"), *broken])
    here(world, "run")
    patch = world.folder / "patch.json"
    patch.write_text(json.dumps([{"op": "add", "path": "/payload/consent", "value": True}]))
    told = world.done("replay", "--reason", "missing_required", "--patch", str(patch))
    assert (told["plan"]["passes"], told["plan"]["fails"]) == (5, {})
    assert told["plan"]["sinks"]["leads.postgres"] == 5
    order = ("replay", "--apply", told["replay_id"], *WHY)
    cut = world.run(*order, HEADWATER_FAILPOINT="replay:after_write")
    assert cut.code == KILLED, cut.why
    assert world.done(*order)["applied"] == {"sent": 5, "refused_again": 0}
    here(world, "run", prove=True)
    assert prove(world)["unexplained"] == 0
    assert sorted(key for _, key in world.postgres()) == ["a", "r0", "r1", "r2", "r3", "r4"]
    assert len(world.table("bronze.leads")) == 11
    assert {row["status"] for row in world.table("ops.dead_letters")} == {"replayed"}
