"""The domain crm from Kafka to silver: Avro of several versions, one job, and a registry that goes away."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from pyspark.sql import SparkSession

from jobs.audit import audit
from jobs.build_crm import BuildCrm
from jobs.queries import Context
from jobs.reconcile import reconcile
from jobs.runtime import Runtime
from local.postgres import dsn
from local.traffic import Event, Kind, Mix
from local.traffic_crm import TOPICS, crm
from schemas.avro import framed, parsed
from schemas.contract import domain_contracts
from schemas.tables import SILVER
from sources.registry import avro_schema, subject_number
from tests.integration.broker import eventually
from tests.integration.jobs_harness import Job, Place, Sent, World
from tests.integration.lake import committed
from tests.integration.schema_registry import SchemaRegistry

OUTCOMES = {Kind.VALID: "silver", Kind.DUPLICATE: "duplicate", Kind.BROKEN: "dead"}
# Of these nobody can tell whose they are.
NOBODYS = ("not_avro", "cut", "unknown_number", "no_organization")
TABLES = [SILVER[contract.stream].full_name for contract in domain_contracts("crm").values()]
WAIT_S = 180.0
AWAY_S = 12.0
BECOMES = {"silver": "processed", "duplicate": "skipped", "dead": "failed", "filtered": "skipped"}
OVERLAY = """
filters:
  acme: [{name: no-probes, drop: [{property: /data/lastName, enum: [{value: Probe}]}]}]
rules:
  acme: [{property: /data/lastName, logicalTypeOptions: {pattern: "^[^0-9]*$"}}]
"""
STAGED = ("crm_leads", "crm_contacts", "crm_opportunities")


@pytest.fixture
def job(world: World, schema_registry: SchemaRegistry, tmp_path: Path) -> Iterator[Job]:
    """All queries of the domain, going on; its schemas are registered, and a tenant has rules of its own."""
    overlays = tmp_path / "overlays"
    overlays.mkdir()
    (overlays / "crm.leads.yaml").write_text(OVERLAY)
    world.env["HEADWATER_STREAMS__OVERLAYS"] = str(overlays)
    world.env["HEADWATER_REGISTRY__URL"] = schema_registry.settings.url
    world.settings = world.settings.model_copy(update={"registry": schema_registry.settings})
    world.done("migrate")
    running = world.start("run", "--domain", "crm")
    yield running
    running.kill()


def sent(event: Event) -> Sent:
    tenant = None if event.flaw in NOBODYS else event.tenant
    return Sent(event.body, OUTCOMES[event.kind], tenant, event.key, event.code, event.topic)


def lead(number: int, writer: Any, key: str, last_name: str = "Ng", **more: Any) -> Sent:
    """A lead of crm.leads that the contract takes, in this version of its schema."""
    now = datetime.now(UTC)
    data = {"id": key, "firstName": "Zoë", "lastName": last_name, "email": f"{key}@example.org",
            "source": "web", "status": "new", "createdAt": now, "updatedAt": now,
            "organizationId": "acme"}  # fmt: skip
    document = {"id": "0b6c1f0e-6f2e-4c57-9d8b-0a4a37e6d1aa", "eventId": key, "eventType": "lead.created",
                "organizationId": "acme", "timestamp": now, "data": data, **more}  # fmt: skip
    return Sent(framed(number, writer, document), "silver", "acme", key, None, "crm.leads")


def version(registry: SchemaRegistry, name: str) -> tuple[int, Any]:
    """A later version of crm.leads, which has one more field: its number, and the schema."""
    made = json.loads(avro_schema("crm.leads"))
    made["fields"].append({"name": name, "type": ["null", "string"], "default": None})
    with SchemaRegistryClient({"url": registry.settings.url}) as client:
        return client.register_schema("crm.leads-value", Schema(json.dumps(made))), parsed(json.dumps(made))


def places(world: World, outcome: str) -> list[Place]:
    return sorted(place for place, record in world.sent.items() if record.outcome == outcome)


def in_silver(world: World) -> list[Place]:
    return sorted(place for name in TABLES for place in world.places(name))


def all_done(world: World) -> bool:
    """Every record has its outcome in the ledger."""
    if not committed(world.lake / "ops" / "ledger"):
        return False
    return sum(counts["in_rows"] for counts in world.ledger("refine.crm").values()) == len(world.sent)


def asked(world: World, query: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", world.name)) as connection:
        return connection.execute(query.encode(), values).fetchall()


def in_log(world: World) -> dict[Place, str]:
    """What the log says of each record."""
    found = asked(world, 'SELECT topic, partition, "offset", processing_status FROM analytics.crm_events_log')
    assert len({row[:3] for row in found}) == len(found)
    return {row[:3]: row[3] for row in found}


def staged(world: World) -> set[tuple[str, str, str]]:
    """Table, organization and event id of every row of staging, none of which is there twice."""
    found = [
        (name, *row)
        for name in STAGED
        for row in asked(world, f"SELECT organization_id, event_id FROM analytics.{name}_staging")  # noqa: S608
    ]
    assert len(set(found)) == len(found)
    return set(found)


def in_silver_of(world: World) -> set[tuple[str, str, str]]:
    return {
        (name, row["tenant_id"], row["event_id"])
        for name in STAGED
        for row in world.table(f"silver.{name}", ["tenant_id", "event_id"])
    }


def processed(world: World, *event_ids: str) -> set[str]:
    """Which of these the database says were processed."""
    query = "SELECT id FROM unnest(%s::text[]) AS id WHERE analytics.is_event_processed(id)"
    return {row[0] for row in asked(world, query, list(event_ids))}


def extras(world: World) -> Mapping[str | None, int]:
    return Counter(row["extras"] for row in world.table("silver.crm_leads", ["extras"]))


def test_versions_are_read_as_they_come_and_a_registry_that_is_away_costs_nothing(
    world: World, job: Job, schema_registry: SchemaRegistry, spark: SparkSession
) -> None:
    numbers = {topic: subject_number(schema_registry.settings, topic) for topic in TOPICS}
    mix = Mix(duplicate=0.1, broken=0.2, no_consent=0)
    world.send([sent(event) for event in crm(400, numbers, run="r-", seed=3, mix=mix)])
    eventually(lambda: all_done(world), "the first records are accounted for", WAIT_S)

    # What its tenant does not want, and what only it refuses.
    first = parsed(avro_schema("crm.leads"))
    probes = [lead(numbers["crm.leads"], first, f"p{n}", "Probe") for n in range(7)]
    numbered = lead(numbers["crm.leads"], first, "n", "Ng 2")
    world.send([replace(record, outcome="filtered") for record in [*probes, probes[0]]])
    world.send([replace(numbered, outcome="dead", reason="rule:pattern")])

    # A version of a minute ago, between records of the one before.
    second, writer = version(schema_registry, "region")
    mixed = [
        lead(second, writer, f"v{n}", region="north") if n % 2 else lead(numbers["crm.leads"], first, f"v{n}")
        for n in range(20)
    ]
    world.send(mixed)
    eventually(lambda: all_done(world), "both versions are accounted for", WAIT_S)
    assert extras(world)['{"/region":"north"}'] == 10

    # A version that nobody has met, while the registry is away.
    third, writer = version(schema_registry, "channel")
    dead = world.places("ops.dead_letters")
    schema_registry.door.close()
    world.send([lead(third, writer, f"w{n}", channel="fair") for n in range(5)])
    time.sleep(AWAY_S)
    assert world.places("ops.dead_letters") == dead and not all_done(world)
    schema_registry.door.open()
    eventually(lambda: all_done(world), "it is read when the registry is back", WAIT_S)
    assert extras(world)['{"/channel":"fair"}'] == 5

    # The same events again: they are told as skipped, and staging has them once.
    again = [record for record in world.sent.values() if record.outcome == "silver"][:40]
    world.send([replace(record, outcome="duplicate") for record in again])
    eventually(lambda: all_done(world), "what came again is accounted for", WAIT_S)
    eventually(lambda: len(in_log(world)) == len(world.sent), "every record is in the log", WAIT_S)
    eventually(lambda: staged(world) == in_silver_of(world), "staging has what silver has", WAIT_S)
    job.terminate()
    assert job.wait().code == 0
    check(world, spark)
    assert in_log(world) == {place: BECOMES[record.outcome] for place, record in world.sent.items()}
    assert {again[0].key, "no such event"} - processed(world, again[0].key, "no such event") == {
        "no such event"
    }

    rebuilt(world, Path(world.env["HEADWATER_STREAMS__OVERLAYS"]) / "crm.leads.yaml")


def rebuilt(world: World, overlay: Path) -> None:
    """The tenant's rules go, and what they kept out comes in: the log tells of it."""
    overlay.unlink()
    told = {
        place: sent for place, sent in world.sent.items() if sent.outcome == "filtered" or sent.key == "n"
    }
    copy = max(place for place, sent in told.items() if sent.key == "p0")
    now = datetime.now(UTC)
    span = [(now - timedelta(hours=1)).isoformat(), (now + timedelta(minutes=1)).isoformat()]
    words = ("--stream", "crm.leads", "--since", span[0], "--until", span[1], "--yes", "--why", "a test")
    done = world.done("rebuild", *words)["applied"]
    moves = {"dead → silver": 1, "filtered → duplicate": 1, "filtered → silver": 7}
    assert done == {"records": moves, "destinations": {"crm.log": {"told": 9}}}
    world.sent |= {place: replace(sent, outcome="silver") for place, sent in told.items()}
    world.sent[copy] = replace(world.sent[copy], outcome="duplicate")
    assert in_silver(world) == places(world, "silver")
    assert in_log(world) == {place: BECOMES[record.outcome] for place, record in world.sent.items()}
    counted = asked(world, "SELECT sum(events) FROM analytics.crm_event_counts")
    assert counted == asked(
        world, "SELECT count(*) FROM analytics.crm_events_log WHERE organization_id IS NOT NULL"
    )


def check(world: World, spark: SparkSession) -> None:
    """Each record has the outcome that it was made for, once, with its reason; the ledger agrees."""
    assert in_silver(world) == places(world, "silver")
    letters = {
        (row["source_topic"], row["source_partition"], row["source_offset"]): row["reasons"][0]["code"]
        for row in world.table("ops.dead_letters")
    }
    assert letters == {
        place: record.reason for place, record in world.sent.items() if record.outcome == "dead"
    }
    expected = {who: {k: n for k, n in c.items() if n} for who, c in world.expected_ledger().items()}
    assert {
        who: {k: n for k, n in c.items() if n} for who, c in world.ledger("refine.crm").items()
    } == expected
    context = Context(spark, world.settings, "test")
    assert world.places("ops.filtered") == places(world, "filtered")
    query = "SELECT error_message FROM analytics.crm_events_log WHERE error_message LIKE %s"
    said = asked(world, query, "filt%")
    assert said == [("filtered: no-probes",)] * 8
    found = audit(context, "crm")
    assert sum(counts["unexplained"] for counts in found.values()) == 0
    compared = reconcile(context, "crm")["reconcile"]
    assert sum(counts["found"] for counts in compared.values()) == len(staged(world))
    # Gold is behind by a minute.
    Runtime(context, once=True).run([BuildCrm(context)])
    deals = {row["opportunity_id"] for row in world.table("silver.crm_opportunities", ["opportunity_id"])}
    assert sorted(deals) == sorted(row["opportunity_id"] for row in world.table("gold.crm_pipeline"))
