"""States in which a job must not go on: it says which, what to mend, and leaves the lake as it was."""

import shutil

from tests.integration.broker import eventually
from tests.integration.jobs_harness import Here, World, check, good
from tests.integration.lake import committed

INGEST = ("ingest", "--domain", "leads")


def test_a_second_start_of_a_running_job_exits_4_and_the_first_one_stops_with_0(
    world: World, here: Here
) -> None:
    world.send([good("acme", f"k{n}") for n in range(20)])
    first = world.start(*INGEST)
    bronze = world.lake / "bronze/leads"
    eventually(lambda: committed(bronze) and world.places("bronze.leads") == sorted(world.sent), "ingested")
    second = world.run(*INGEST, "--once")
    assert second.code == 4, second.why
    assert str(first.process.pid) in second.status["error"]
    assert first.process.poll() is None
    first.terminate()
    ended = first.wait()
    assert ended.code == 0, ended.why
    assert (ended.status["status"], ended.status["rows_in"]) == ("ok", 20)
    here(world, "run", prove=True)
    check(world)


def test_a_lake_that_does_not_fit_its_checkpoint_or_topic_stops_the_job_with_2(
    world: World, here: Here
) -> None:
    world.send([good("acme", f"k{n}") for n in range(20)])
    here(world, "ingest")

    shutil.rmtree(world.lake / "bronze/leads")
    for _ in range(2):  # a refused start must not make the next one pass
        gone = world.run(*INGEST, "--once")
        assert gone.code == 2, gone.why
        assert "bronze.leads" in gone.status["error"]
        assert str(world.lake / "_checkpoints/ingest.leads") in gone.status["error"]

    # The ledger outlives bronze: what it has accounted for is not taken a second time.
    world.forget("ingest.leads")
    fresh = world.send([good("acme", f"later{n}") for n in range(5)])
    # By a process: one that has written a table keeps in mind what is under its path.
    assert world.done(*INGEST, "--once")["rows_in"] == 5
    assert world.places("bronze.leads") == sorted(fresh)

    world.broker.remake_topics(world.settings)
    world.send([good("acme", f"other{n}") for n in range(50)])
    remade = world.run(*INGEST, "--once")
    assert remade.code == 2, remade.why
    assert "lead.ingest" in remade.status["error"]
    assert world.places("bronze.leads") == sorted(fresh)


def test_records_that_left_kafka_stop_ingest_with_2_until_someone_accepts_their_loss(
    world: World, here: Here
) -> None:
    kept = world.send([good("acme", f"k{n}") for n in range(60)])
    here(world, "ingest")
    lost = world.send([good("acme", f"lost{n}") for n in range(60)])
    world.broker.forget_records("lead.ingest")
    later = world.send([good("acme", f"later{n}") for n in range(5)])

    for checkpoint in ("there", "lost"):
        if checkpoint == "lost":
            world.forget("ingest.leads")
        stopped = world.run(*INGEST, "--once")
        assert stopped.code == 2, stopped.why
        assert "ingest --accept-gap" in stopped.status["error"]
        assert world.places("bronze.leads") == sorted(kept)

    accepted = world.done(*INGEST, "--once", "--accept-gap", "--run-id", "by-ada")
    assert accepted["rows_in"] == 5
    assert world.places("bronze.leads") == sorted([*kept, *later])
    decisions = [row for row in world.table("ops.job_runs") if row["status"] == "accepted"]
    assert {(row["job"], row["run_id"]) for row in decisions} == {("ingest.leads", "by-ada")}
    assert sorted(row["error"] for row in decisions) == sorted(
        f"lead.ingest-{partition}: offsets {min(gone)} to {max(gone)} left Kafka before they were ingested"
        for partition in range(6)
        if (gone := [offset for _, p, offset in lost if p == partition])
    )
    assert world.done(*INGEST, "--once", "--accept-gap")["rows_in"] == 0
