"""A rebuild of leads on real servers: whatever becomes of a record, destinations have what the lake has."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.deliver import Deliver
from jobs.ingest import Ingest
from jobs.queries import Context
from jobs.rebuild import Order, rebuild
from jobs.rebuild_shadow import Span
from jobs.reconcile import reconcile
from jobs.refine import Refine
from jobs.runtime import Runtime
from local.postgres import dsn
from tests.integration.jobs_harness import World, check_tables, good
from tests.integration.outgoing import records

STREAM = "lead.ingest"
SYSTEMS = ("postgres", "elasticsearch", "normalized", "dlq")
SHORT = "rules:\n  acme: [{property: /source, logicalTypeOptions: {maxLength: 5}}]\n"
NONE_OF_THEM = 'rules:\n  acme: [{property: /source, logicalTypeOptions: {pattern: "^never$"}}]\n'


class Lake:
    """Leads of a world, whose acme has a rule of its own, refined and delivered by turns."""

    def __init__(self, spark: SparkSession, world: World, rules: Path) -> None:
        self.spark, self.world, self.rules = spark, world, rules
        streams = world.settings.streams.model_copy(update={"overlays": rules.parent})
        world.settings = world.settings.model_copy(update={"streams": streams})
        world.env["HEADWATER_STREAMS__OVERLAYS"] = str(rules.parent)

    def context(self) -> Context:
        return Context(self.spark, self.world.settings, f"test-{uuid.uuid4()}")

    def refine(self) -> None:
        context = self.context()
        for work in (Ingest(context, "leads"), Refine(context, "leads")):
            Runtime(context, once=True).run([work])

    def deliver(self) -> None:
        context = self.context()
        Runtime(context, once=True).run([Deliver(context, "leads", to) for to in SYSTEMS])

    def plan(self) -> tuple[uuid.UUID, dict[str, Any]]:
        told = rebuild(self.context(), Order(self.span))
        return uuid.UUID(told["rebuild_id"]), told["plan"]

    def apply(self, number: uuid.UUID) -> dict[str, Any]:
        done: dict[str, Any] = rebuild(self.context(), Order(apply=number, why="a test"))["applied"]
        return done

    @property
    def span(self) -> Span:
        now = datetime.now(UTC)
        return Span(STREAM, now - timedelta(hours=1), now + timedelta(minutes=1))

    def became(self, outcome: str, *keys: str) -> None:
        """What the sender knows of them from now on."""
        for place, sent in self.world.sent.items():
            if sent.key in keys:
                self.world.sent[place] = replace(sent, outcome=outcome)

    def check(self) -> None:
        """Bronze, silver, letters, ledger, PostgreSQL and Elasticsearch, by the sender and by the jobs."""
        world = self.world
        sums, corrected = world.ledger("refine.leads"), world.ledger("rebuild.leads")
        for tenant, counts in sums.items():
            counts.update(corrected.get(tenant, {}))
            assert +counts == +world.expected_ledger()[tenant]
        check_tables(world)
        reconcile(self.context(), "leads", also_audit=True)


@pytest.fixture
def lake(spark: SparkSession, world: World, tmp_path: Path) -> Iterator[Lake]:
    rules = tmp_path / "rules" / f"{STREAM}.yaml"
    rules.parent.mkdir()
    rules.write_text(SHORT)
    made = Lake(spark, world, rules)
    world.send([good("acme", "k1"), good("acme", "k1", "duplicate"), good("acme", "k2", source="a long one")])
    world.send([good("globex", "k3", source="a long one")])
    made.became("dead", "k2")
    made.refine()
    yield made


def captured(world: World) -> list[str]:
    """Announcements by key, in their order."""
    query = "SELECT l.idempotency_key FROM lead_outbox o JOIN leads l ON l.id = o.lead_id ORDER BY o.seq"
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", world.name)) as connection:
        return [row[0] for row in connection.execute(query).fetchall()]


def normalized(world: World) -> list[tuple[str, str]]:
    found = [
        (value["idempotency_key"], value["source"]) for _, value in records(world.broker, "lead.normalized")
    ]
    return sorted(found)


def test_rows_that_change_go_or_come_are_so_in_every_destination(lake: Lake) -> None:
    world = lake.world
    # As code of before has made it.
    DeltaTable(str(world.lake / "silver" / "leads")).update(
        {"source": "'wbe'"}, predicate="idempotency_key = 'k1'"
    )
    lake.deliver()
    assert normalized(world) == [("k1", "wbe"), ("k3", "a long one")]

    lake.rules.unlink()
    number, told = lake.plan()
    assert told["moves"] == {"dead → silver": 1, "silver → silver": 1}
    assert told["sinks"] == {
        "leads.elasticsearch": 2, "leads.normalized": 2, "leads.postgres": 2,
    }  # fmt: skip
    done = lake.apply(number)["destinations"]
    right = {"missing": 0, "extra": 0, "older": 0, "different": 1}
    assert done == {"postgres": right, "elasticsearch": right, "leads.normalized": {"sent": 1}}
    lake.became("silver", "k2")
    lake.deliver()
    lake.check()
    assert normalized(world) == [("k1", "wbe"), ("k1", "web"), ("k2", "a long one"), ("k3", "a long one")]
    assert sorted(captured(world)) == ["k1", "k2", "k3"]

    # All of acme's are wrong now.
    lake.rules.write_text(NONE_OF_THEM)
    told = rebuild(lake.context(), Order(lake.span, yes=True, why="a test"))
    assert told["applied"]["records"] == {"duplicate → dead": 1, "silver → dead": 2}
    assert [found["extra"] for name, found in told["applied"]["destinations"].items()] == [2, 2]
    lake.became("dead", "k1", "k2")
    lake.deliver()
    lake.check()
    letters = [value["source_offset"] for _, value in records(world.broker, "lead.dlq")]
    assert len(letters) == 1 + 3


def test_a_rebuild_that_was_killed_is_ended_by_the_same_command(lake: Lake) -> None:
    world = lake.world
    lake.deliver()
    lake.rules.unlink()
    words = ["--since", lake.span.since.isoformat(), "--until", lake.span.until.isoformat()]
    told = world.done("rebuild", "--stream", STREAM, *words)
    assert told["plan"]["moves"] == {"dead → silver": 1}
    apply = ("rebuild", "--apply", told["rebuild_id"], "--why", "a test")
    killed = world.run(*apply, HEADWATER_FAILPOINT="rebuild:in_transaction")
    assert killed.code == -9, killed.why
    refused = world.run("rebuild", "--stream", STREAM, *words)
    assert refused.code == 2 and told["rebuild_id"] in refused.status["error"]
    # Streams go on meanwhile.
    world.send([good("acme", "k4"), good("acme", "k2", "duplicate", source="a long one")])
    assert world.done(*apply)["applied"]["records"] == {"dead → silver": 1}
    lake.became("silver", "k2")
    assert world.done(*apply)["applied"] == {"done": "before"}
    rebuilt = [place for place, sent in world.sent.items() if sent.key == "k2"][-1:]
    world.sent |= {place: replace(world.sent[place], outcome="duplicate") for place in rebuilt}
    lake.refine()
    lake.deliver()
    lake.check()
    decided = [row["error"] for row in world.table("ops.job_runs") if row["status"] == "accepted"]
    assert len(decided) == 2 and all(told["rebuild_id"] in text for text in decided)
