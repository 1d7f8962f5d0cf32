"""SIGKILL of jobs at every fail-point, on one lake: each start mends what the one before left behind.

Of each query the first kill is of a `run`, which brings it all that was sent until then. The next ones are of
the job of this query alone, which meets the batch that the kill before has left, and is killed further on.
"""

from typing import Any

from tests.integration.jobs_harness import Here, Prove, Sent, World, check, dead, good, refused
from tests.integration.lake import committed
from tests.integration.outgoing import check_topics

FAILPOINTS = [
    "ingest.leads:offsets",
    "ingest.leads:task",
    "ingest.leads:before_write",
    "ingest.leads:after_write:2",
    "ingest.leads:before_commit",
    "refine.leads:offsets",
    "refine.leads:task",
    "refine.leads:before_write:2",
    "refine.leads:after_write",
    "refine.leads:before_commit",
    "deliver.leads.postgres:offsets",
    "deliver.leads.postgres:before_write",
    "deliver.leads.postgres:in_transaction",
    "deliver.leads.postgres:after_write",
    "deliver.leads.postgres:before_commit",
    "deliver.leads.elasticsearch:after_write",
    "deliver.leads.elasticsearch:before_commit",
    "deliver.leads.normalized:before_commit",
    "deliver.leads.dlq:after_write",
]
# So that a second batch is there for the second meeting of a fail-point.
SMALL_BATCHES = {
    "ingest.leads:after_write:2": {"HEADWATER_STREAMS__MAX_OFFSETS_PER_TRIGGER": "8"},
    "refine.leads": {"HEADWATER_STREAMS__MAX_FILES_PER_TRIGGER": "1"},
}


def slice_of(number: int) -> list[Sent]:
    """New leads, ones that came in this or an earlier slice, a broken one and a refusal."""
    tenant = ("acme", "globex")[number % 2]
    fresh = [good(tenant, f"s{number}.{n}") for n in range(12)]
    again = [good(tenant, f"s{earlier}.3", "duplicate") for earlier in range(number % 2, number + 1, 2)]
    faulty = dead(tenant, f"b{number}", "missing_required", payload__email=None)
    return [*fresh, *again, faulty, refused(tenant, f"n{number}")]


def test_a_kill_at_any_point_leaves_what_an_undisturbed_run_makes(
    world: World, twin: World, here: Here, prove: Prove
) -> None:
    for number, failpoint in enumerate(FAILPOINTS):
        world.send(slice_of(number))
        query = failpoint.partition(":")[0]
        small = SMALL_BATCHES.get(failpoint, SMALL_BATCHES.get(query, {}))
        # Every other batch is written as large ones are; what takes it up again writes small ones otherwise.
        written_by = {"HEADWATER_STREAMS__SMALL_BATCHES": "spark"} if number % 2 else {}
        env = {"HEADWATER_FAILPOINT": failpoint, **small, **written_by}
        ended = world.run(*job_of(failpoint), "--once", **env)
        assert ended.code == -9, f"{failpoint}: {ended.why}"
        nothing_doubled(world, failpoint)
    here(world, "run")
    check(world)
    check_topics(world)
    prove(world)

    twin.sent = world.sent
    here(twin, "run")
    assert end_state(world) == end_state(twin)


def job_of(failpoint: str) -> list[str]:
    """`run` for the first kill of a query, and for the others the job that has this query alone."""
    query = failpoint.partition(":")[0]
    if next(other for other in FAILPOINTS if other.startswith(f"{query}:")) == failpoint:
        return ["run", "--domain", "leads"]
    verb, domain, *system = query.split(".")
    return [verb, "--domain", domain, *[word for name in system for word in ("--to", name)]]


def nothing_doubled(world: World, when: str) -> None:
    """What holds at any moment, in the middle of a recovery too."""
    bronze = world.places("bronze.leads")
    assert len(bronze) == len(set(bronze)) and set(bronze) <= world.sent.keys(), when
    if committed(world.lake / "silver/leads") and committed(world.lake / "ops/dead_letters"):
        silver, letters = world.places("silver.leads"), world.places("ops.dead_letters")
        assert len(silver) == len(world.silver()), when
        assert len(letters) == len(set(letters)) and not set(letters) & set(silver), when


def end_state(world: World) -> tuple[Any, ...]:
    """All that must not depend on the way: which of several equal records was first does."""
    letters = {row["dead_letter_id"]: row["fingerprint"] for row in world.table("ops.dead_letters")}
    rows = [without_version(store) for store in (world.silver(), world.postgres(), world.documents())]
    return world.places("bronze.leads"), letters, world.ledger("refine.leads"), *rows


def without_version(rows: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    return {key: {k: v for k, v in row.items() if k != "row_version"} for key, row in rows.items()}
