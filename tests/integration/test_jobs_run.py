"""`python -m jobs run --once` on a real broker, database and index: counts, values, and doing it again."""

import json

import psycopg

from local.postgres import dsn
from tests.integration.jobs_harness import (
    Here,
    Prove,
    Sent,
    World,
    check,
    dead,
    garbled,
    good,
    refused,
    refused_by_api,
)
from tests.integration.outgoing import check_topics

TEN_YEARS_AHEAD = "2036-03-01T12:00:00Z"


def mixed() -> list[Sent]:
    """Two tenants' leads, repeated ones, refusals of consent, and records broken in many ways."""
    leads = [good(tenant, f"k{n}") for tenant in ("acme", "globex") for n in range(100)]
    again = [good(tenant, f"k{n}", "duplicate") for tenant in ("acme", "globex") for n in range(0, 60, 2)]
    return [*leads, *again, *refusals(), *broken()]


def refusals() -> list[Sent]:
    unsound = {"payload__email": "no address", "received_at": TEN_YEARS_AHEAD}
    return [
        *[refused("acme", f"no{n}") for n in range(5)],
        *[refused("globex", f"no{n}", **unsound) for n in range(3)],
        refused("acme", "k1"),
    ]


def broken() -> list[Sent]:
    whole = good("acme", "deep").value or b""
    unreadable = [
        (None, "empty"),
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{not json", "malformed_json"),
        (b'{"a": NaN}', "malformed_json"),
        (whole + b" {}", "malformed_json"),
        (b"\xff\xfe{}", "invalid_utf8"),
        (whole.replace(b"spring", b"\\ud800"), "invalid_utf8"),
        (whole.replace(b'"two"', b"[" * 40 + b"]" * 40), "too_deep"),
        (whole.replace(b"spring", b"a\\u0000b"), "nul_character"),
        (whole.replace(b'"two"', b"1e400"), "type_mismatch"),
        (b"[1, 2]", "type_mismatch"),
        (whole.replace(b"spring", b"x" * (1 << 20)), "too_large"),
        (whole.replace(b"spring", b"x" * (20 << 20)), "too_large"),
    ]
    rules = [
        dead("acme", "b1", "rule:pattern", payload__email="nobody at example"),
        dead("acme", "b2", "missing_required", payload__email="  "),
        dead("acme", "b3", "type_mismatch", payload__email=5),
        dead("acme", "b4", "type_mismatch", received_at="yesterday"),
        dead("acme", "b5", "event_time_out_of_range", received_at=TEN_YEARS_AHEAD),
        dead("acme", "b6", "event_time_out_of_range", received_at="1999-12-31T23:59:59Z"),
        dead("globex", "b7", "rule:max_length", source="x" * 51),
        dead("globex", "b8", "rule:format", event_id="no-uuid"),
        dead("globex", "b9", "type_mismatch", payload__consent="false"),
        dead(None, "b10", "tenant_missing", tenant_id=""),
    ]
    by_api = [
        refused_by_api("acme", b"{", "malformed_json"),
        refused_by_api("globex", b'{"source": 5}', "type_mismatch", "/source"),
    ]
    return [*[garbled(value, reason) for value, reason in unreadable], *rules, *by_api]


def test_every_record_has_the_outcome_that_its_sender_expects(world: World, here: Here, prove: Prove) -> None:
    world.send(mixed())
    status_file = world.folder / "status.json"
    first = world.done(
        "run", "--domain", "leads", "--once", "--run-id", "first", "--status-file", str(status_file)
    )
    assert json.loads(status_file.read_text()) == first
    assert (first["job"], first["run_id"], first["status"]) == ("run", "first", "ok")
    assert (first["duplicate"], first["dead"], first["no_consent"], first["erased"]) == (60, 26, 9, 0)
    tables = ("bronze.leads", "ops.dead_letters", "ops.ledger", "silver.leads")
    assert first["table_versions"] == {name: newest_version(world, name) for name in tables}
    check(world)
    check_topics(world)
    assert {row["stage"] for row in world.table("ops.dead_letters")} == {"decode", "validate", "api"}
    assert reasons(world) == {place: r.reason for place, r in world.sent.items() if r.reason}
    counts = prove(world)
    before = (world.silver(), world.places("ops.dead_letters"), len(world.table("ops.ledger")))

    second = world.done("run", "--domain", "leads", "--once", "--prove", "--trace", "k1")
    assert (second["status"], second["rows_in"], second["rows_out"]) == ("ok", 0, 0)
    assert second["table_versions"] == {}
    proof = second["proof"]["leads"]
    assert proof["audit"]["lead.ingest"] == counts
    assert proof["trace"]["k1"] == {
        "bronze": 33,
        "reasons": {},
        "silver": 22,
        "duplicate": 10,
        "no_consent": 1,
    }
    assert {system: side["found"] for system, side in proof["reconcile"].items()} == {
        "postgres": 200,
        "elasticsearch": 200,
    }
    assert (world.silver(), world.places("ops.dead_letters"), len(world.table("ops.ledger"))) == before

    world.send([good("acme", "late")])
    again = world.done(
        "run", "--domain", "leads", "--once", "--run-id", "first", "--status-file", str(status_file)
    )
    assert again["status"] == "noop"
    assert json.loads(status_file.read_text()) == again
    place, late = world.sent.popitem()
    check(world)
    assert prove(world) == counts

    # Those of ten years ahead have moved nobody's watermark: what comes now is not late, what came is known.
    world.sent[place] = late
    world.send([good("globex", "k1", "duplicate")])
    third = here(world, "run")
    assert (third.duplicate, third.dead) == (1, 0)
    check(world)


def test_a_run_that_proves_ends_with_3_when_a_destination_differs(world: World, here: Here) -> None:
    place, _ = world.send([good("acme", "k1"), good("acme", "k2")])
    here(world, "run")
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", world.name)) as connection:
        connection.execute("UPDATE leads SET source = 'elsewhere' WHERE idempotency_key = 'k1'")
    ended = world.run("run", "--domain", "leads", "--once", "--prove")
    told = f"leads: reconcile: postgres: 1 rows different ({'-'.join(map(str, place))})"
    assert (ended.code, ended.status["error"]) == (3, told)


def newest_version(world: World, table: str) -> int:
    log = world.lake / table.replace(".", "/") / "_delta_log"
    return max(int(entry.stem) for entry in log.glob("*.json"))


def reasons(world: World) -> dict[tuple[str, int, int], str]:
    """The first reason of every dead letter by its place."""
    found = {}
    for row in world.table("ops.dead_letters"):
        place = (row["source_topic"], row["source_partition"], row["source_offset"])
        found[place] = row["reasons"][0]["code"]
    return found
