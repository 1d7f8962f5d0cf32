"""Floods of one event, odd times, a destination rebuilt, and the breaker."""

import re
from typing import Any

import psycopg
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headwater.identity import document_key
from headwater.tables import append_once, read_table
from local.postgres import dsn
from tests.integration.jobs_harness import Here, Prove, Sent, World, check, check_destinations, dead, good

COPIES = 10_000


def flood() -> list[Sent]:
    """One event 10,000 times, events of long ago, of just now and of a far future, in one batch."""
    days_late = [good("acme", f"late{n}", received_at=f"2025-0{n}-15T08:00:00+02:00") for n in range(1, 10)]
    ahead = [
        dead("acme", f"ahead{n}", "event_time_out_of_range", received_at="2036-11-21T00:00:00Z")
        for n in range(5)
    ]
    copies = [good("globex", "same", "silver" if n == 0 else "duplicate") for n in range(COPIES)]
    return [*days_late, *ahead, *copies, *[good("acme", f"k{n}") for n in range(20)]]


def test_a_flood_of_one_event_is_one_row_and_a_garbled_destination_is_rebuilt(
    world: World, here: Here, prove: Prove, spark: SparkSession
) -> None:
    world.send(flood())
    totals = here(world, "run")
    assert (totals.duplicate, totals.dead) == (COPIES - 1, 5)
    check(world)
    prove(world)

    garble_postgres(world)
    here(world, "deliver", to="postgres", from_start=True)
    garble_elasticsearch(world)
    here(world, "deliver", to="elasticsearch", from_start=True)
    check_destinations(world)

    # As if the same events came again after the window: silver has them twice, destinations the newest.
    enter_again(spark, world, "k1", hours=5)
    enter_again(spark, world, "k2", hours=-5)
    here(world, "run")
    times = {key: row["received_at"].hour for (_, key), row in world.postgres().items()}
    assert (times["k1"], times["k2"]) == (17, 12)
    assert {d["received_at"].hour for d in documents_of(world, "k1")} == {17}
    assert {d["received_at"].hour for d in documents_of(world, "k2")} == {12}


def garble_postgres(world: World) -> None:
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", world.name)) as connection:
        connection.execute("DELETE FROM leads WHERE idempotency_key IN ('k1', 'same')")
        connection.execute(
            "UPDATE leads SET email = 'x@y.z', row_version = 1::bigint << 62 WHERE idempotency_key = 'k2'"
        )
        connection.execute("UPDATE leads SET idempotency_key = 'stray' WHERE idempotency_key = 'k3'")


def garble_elasticsearch(world: World) -> None:
    alias = f"{world.prefix}leads"
    with world.elasticsearch() as client:
        client.delete(index=alias, id=document_key("acme", "k1"))
        fields = {"id": "stray", "tenant_id": "acme", "email": "x@y.z"}
        for name in (document_key("acme", "k2"), "stray"):
            client.index(index=alias, id=name, document=fields, version=1 << 62, version_type="external_gte")


def documents_of(world: World, key: str) -> list[dict[str, Any]]:
    wanted = world.postgres()["acme", key]["id"]
    return [document for name, document in world.documents().items() if name == wanted]


def enter_again(spark: SparkSession, world: World, key: str, hours: int) -> None:
    """Append a silver row's event once more, some hours later or earlier."""
    later = F.make_dt_interval(F.lit(0), F.lit(hours))
    rows = read_table(spark, world.settings, "silver.leads").where(F.col("idempotency_key") == key)
    shifted = rows.withColumns(
        {
            "received_at": F.col("received_at") + later,
            "event_time": F.col("event_time") + later,
            "row_version": F.col("row_version") + F.lit(hours * 3_600_000 << 20),
        }
    )
    append_once(shifted, world.settings, "silver.leads", f"test-{key}", 0)


def test_a_batch_that_is_mostly_broken_stops_before_it_writes_until_someone_accepts_it(
    world: World, here: Here, prove: Prove
) -> None:
    world.send([dead("acme", f"b{n}", "missing_required", payload__email=None) for n in range(1_000)])
    world.send([good("acme", f"k{n}") for n in range(500)])
    stopped = world.run("run", "--domain", "leads", "--once")
    assert stopped.code == 3, stopped.why
    assert "missing_required" in stopped.status["error"]
    assert "--accept-batch 0" in stopped.status["error"]
    assert re.search(
        r"for example (lead\.ingest-\d+-\d+ \(/payload/email\)(, )?){3}\.", stopped.status["error"]
    )
    for name in ("silver.leads", "ops.dead_letters"):
        assert world.table(name) == []
    assert world.ledger("refine.leads") == {}

    status = world.done("refine", "--domain", "leads", "--once", "--accept-batch", "0")
    assert (status["rows_in"], status["rows_out"], status["dead"]) == (1_500, 500, 1_000)
    decided = [row["error"] for row in world.table("ops.job_runs") if row["status"] == "accepted"]
    assert len(decided) == 1 and "1000 of 1500 records of lead.ingest in batch 0 fail" in decided[0]
    here(world, "run")
    check(world)
    prove(world)
