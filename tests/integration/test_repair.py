# ruff: noqa: S608 - the test's own words
"""reconcile --repair of leads: what is wrong in PostgreSQL and Elasticsearch is named, and put right."""

import json
import os
import re
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from pyspark.sql import SparkSession

from headwater.errors import LockedError, SetupError
from headwater.identity import document_key, event_id
from headwater.locks import instance_lock
from headwater.settings import Settings, load_settings
from jobs import repair
from schemas.tables import JOB_RUNS, LEADS
from tests.builders import arrow_schema
from tests.integration.api_server import free_port
from tests.integration.interactions_harness import read
from tests.integration.jobs_harness import Ended, Job
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.repair_harness import NOTHING, Lake, asked, did, table_of

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
COUNT = 400
CANARY = "ada.lovelace@example.com"


def lead(number: int, version: int = 5, **changes: Any) -> dict[str, Any]:
    key = f"{CANARY}-{number}"
    name = event_id("acme", key)
    row = {
        "id": name, "event_id": name, "tenant_id": "acme", "idempotency_key": key, "source": "web",
        "email": CANARY, "consent": True, "received_at": NOON, "event_time": NOON,
        "ip_address": "2001:db8::1", "metadata": '{"a": [1, "b"]}', "row_version": version,
        "source_topic": "lead.ingest", "source_partition": 3, "source_offset": number,
    }  # fmt: skip
    return row | changes


def enter(lake: Lake, *leads: dict[str, Any]) -> None:
    lake.enter(LEADS, table_of(leads, arrow_schema(LEADS.columns)))


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture
def server() -> Iterator[Elasticsearch]:
    with Elasticsearch(load_settings("local").elasticsearch.url) as client:
        yield client


@pytest.fixture
def settings(database: str, server: Elasticsearch, tmp_path: Path) -> Iterator[Settings]:
    base = load_settings("local").elasticsearch
    prefix = f"repair-{uuid.uuid4().hex[:8]}-"
    own = base.model_copy(update={"prefix": prefix})
    yield settings_of(database, lake=str(tmp_path / "lake"), elasticsearch=own)
    server.indices.delete(index=f"{prefix}leads-v1", ignore_unavailable=True)


@pytest.fixture
def lake(spark: SparkSession, settings: Settings, database: str) -> Lake:
    """Leads as delivered. One of them came twice."""
    did(database, "TRUNCATE leads, lead_outbox")
    made = Lake(spark, settings, "leads", "postgres", "elasticsearch")
    enter(made, *map(lead, range(COUNT)), lead(9, 4, source="before"))
    made.deliver()
    return made


@pytest.fixture
def index(lake: Lake, server: Elasticsearch) -> str:
    """The alias. The server soon forgets what was deleted."""
    name = f"{lake.settings.elasticsearch.prefix}leads"
    server.indices.put_settings(index=name, settings={"index.gc_deletes": "500ms"})
    return name


def numbered(*numbers: int) -> str:
    keys = ", ".join(f"'{CANARY}-{number}'" for number in numbers)
    return f"WHERE idempotency_key IN ({keys})"


def spoil_postgres(database: str) -> None:
    """Removed, older, changed, of a version that never was, and one that nobody has sent."""
    did(
        database,
        f"DELETE FROM leads {numbered(1, 2)}",
        f"UPDATE leads SET row_version = 3, source = 'old' {numbered(3)}",
        f"UPDATE leads SET source = 'elsewhere' {numbered(4)}",
        f"UPDATE leads SET id = gen_random_uuid() {numbered(5)}",
        f"UPDATE leads SET source = 'ghost', row_version = 77 {numbered(6)}",
        "INSERT INTO leads (id, event_id, tenant_id, idempotency_key, email, consent, source, received_at,"
        " row_version) SELECT gen_random_uuid(), gen_random_uuid(), tenant_id, 'nobody', email, consent,"
        f" source, received_at, row_version FROM leads {numbered(7)}",
    )


SPOILT = [
    "postgres: 2 rows missing",
    "postgres: 1 rows extra",
    "postgres: 1 rows older",
    "postgres: 3 rows different",
]


def test_every_kind_is_counted_and_named_by_place_and_a_repair_leaves_none(
    lake: Lake, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    created = asked(database, f"SELECT created_at FROM leads {numbered(3, 4, 6)} ORDER BY id")
    told = asked(database, "SELECT count(*) FROM lead_outbox")
    assert told == [(COUNT,)]
    spoil_postgres(database)
    extra = document_key("acme", "nobody")
    *others, different = lake.faults(to="postgres", show=6)
    assert sorted(others) == [
        f"postgres: 1 rows extra (key {extra})",
        "postgres: 1 rows older (lead.ingest-3-3)",
        "postgres: 2 rows missing (lead.ingest-3-1, lead.ingest-3-2)",
    ]
    places = "lead\\.ingest-3-[456]"
    assert re.fullmatch(rf"postgres: 3 rows different \({places}, {places}, …\)", different)
    assert all("(" not in fault for fault in lake.faults(to="postgres", show=0))

    found = lake.reconcile(to="postgres", repair=True)["postgres"]
    assert found["repaired"] == {"missing": 2, "extra": 1, "older": 1, "different": 3}
    assert (found["left"], found["silver"]) == (NOTHING, COUNT)
    assert lake.reconcile(repair=True)["postgres"] == {"silver": COUNT, "found": COUNT, **NOTHING}
    # Of those that were only changed the database still knows since when it has them.
    assert asked(database, f"SELECT created_at FROM leads {numbered(3, 4, 6)} ORDER BY id") == created
    # What was announced is not announced again.
    assert asked(database, "SELECT count(*) FROM lead_outbox") == told
    (run,) = [row for row in read(lake.settings, JOB_RUNS.full_name) if row["status"] == "accepted"]
    assert run["job"] == "repair.leads.postgres"
    assert run["error"].endswith("repairs postgres: 2 missing, 1 extra, 1 older, 3 different")
    assert CANARY not in caplog.text


def test_documents_are_put_right_whatever_their_version(
    lake: Lake, index: str, server: Elasticsearch
) -> None:
    def name(number: int) -> str:
        return document_key("acme", f"{CANARY}-{number}")

    whole = server.get(index=index, id=name(8))["_source"]
    server.delete(index=index, id=name(1))
    # Kept by the version that they have: the same, a later one (an update counts up), one that is before.
    server.index(
        index=index, id=name(2), version=5, version_type="external_gte", document=whole | {"source": "x"}
    )
    server.update(index=index, id=name(3), doc={"source": "ghost"})
    server.delete(index=index, id=name(4))
    server.index(index=index, id=name(5) + "f", document=whole)
    server.index(index=index, id=document_key("acme", "nobody"), document=whole)
    # The server must have forgotten the deletion.
    server.indices.put_settings(index=index, settings={"index.gc_deletes": "0s"})
    time.sleep(1)
    server.index(index=index, id=name(4), version=2, version_type="external", document=whole)
    server.indices.put_settings(index=index, settings={"index.gc_deletes": "500ms"})
    assert lake.counted(to="elasticsearch") == [
        "elasticsearch: 1 rows missing",
        "elasticsearch: 2 rows extra",
        "elasticsearch: 1 rows older",
        "elasticsearch: 2 rows different",
    ]
    found = lake.reconcile(to="elasticsearch", repair=True)["elasticsearch"]
    assert found["repaired"] == {"missing": 1, "extra": 2, "older": 1, "different": 2}
    assert lake.reconcile(to="elasticsearch")["elasticsearch"]["found"] == COUNT
    assert {server.get(index=index, id=name(n))["_version"] for n in range(6)} == {5}


def test_a_sample_is_the_same_keys_on_both_sides(lake: Lake, database: str) -> None:
    some = lake.reconcile(sample=100)
    for side in some.values():
        assert 60 < side["silver"] == side["found"] < 140
        assert side["sampled"] == {"keys": side["silver"], "of": COUNT + 1}
    assert lake.reconcile(sample=100, to="postgres") == {"postgres": some["postgres"]}
    assert lake.reconcile(sample=10_000, to="postgres")["postgres"]["silver"] == COUNT
    did(database, "DELETE FROM leads")
    whole = some["postgres"]["silver"]
    assert lake.counted(sample=100, to="postgres") == [f"postgres: {whole} rows missing"]
    mended = lake.reconcile(sample=100, to="postgres", repair=True)["postgres"]
    assert mended["repaired"]["missing"] == whole
    assert lake.counted(to="postgres") == [f"postgres: {COUNT - whole} rows missing"]


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("before_write", SPOILT),
        ("after_write", [fault for fault in SPOILT if "extra" not in fault]),
        ("in_transaction", [fault for fault in SPOILT if "extra" not in fault]),
        ("before_commit", []),
    ],
)
def test_a_repair_that_ends_anywhere_leaves_nothing_worse(
    lake: Lake, database: str, monkeypatch: pytest.MonkeyPatch, point: str, left: list[str]
) -> None:
    spoil_postgres(database)
    assert lake.left_by_a_crash(monkeypatch, point, to="postgres") == left
    found = lake.reconcile(to="postgres", repair=True)["postgres"]
    assert found.get("left", NOTHING) == NOTHING
    assert lake.faults(to="postgres") == []


def command(settings: Settings, folder: Path, *words: str, **env: str) -> Ended:
    """`python -m jobs reconcile --domain leads --to postgres`."""
    own = {
        "HEADWATER_ENV": "local",
        "HEADWATER_LAKE": settings.lake_root,
        "HEADWATER_POSTGRES__DSN": settings.postgres.dsn,
        "HEADWATER_POSTGRES__OWNER_DSN": settings.postgres.owner_dsn,
        "HEADWATER_METRICS__PORT": str(free_port()),
        "HEADWATER_SPARK__DRIVER_MEMORY": "1g",
        "HEADWATER_SPARK__CONF": json.dumps({"spark.ui.enabled": "false"}),
        "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",
    }
    argv = [sys.executable, "-m", "jobs", "reconcile", "--domain", "leads", "--to", "postgres", *words]
    return Job(argv, {**os.environ, **own, **env}, folder / "job.log").wait()


def test_a_repair_that_is_killed_is_ordered_again(
    lake: Lake, database: str, settings: Settings, tmp_path: Path
) -> None:
    spoil_postgres(database)
    point = "repair.leads.postgres:in_transaction"
    killed = command(settings, tmp_path, "--repair", HEADWATER_FAILPOINT=point)
    assert killed.code == -signal.SIGKILL, killed.why
    assert lake.counted(to="postgres") == [fault for fault in SPOILT if "extra" not in fault]
    done = command(settings, tmp_path, "--repair", "--run-id", "again")
    assert done.code == 0, done.why
    found = done.status["reconcile"]["postgres"]
    assert (found["repaired"], found["left"]) == (
        {"missing": 2, "extra": 0, "older": 1, "different": 3},
        NOTHING,
    )
    assert CANARY not in done.out + done.log.read_text()


def test_what_comes_while_a_repair_is_at_work_is_kept(
    lake: Lake, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    did(
        database,
        f"UPDATE leads SET source = 'elsewhere' {numbered(1)}",
        f"UPDATE leads SET source = 'ghost', row_version = 77 {numbered(2, 3)}",
        "INSERT INTO leads (id, event_id, tenant_id, idempotency_key, email, consent, source, received_at,"
        " row_version) SELECT id, event_id, tenant_id, 'late', email, consent, source, received_at, 1"
        f" FROM leads {numbered(7)}".replace("SELECT id, event_id", "SELECT gen_random_uuid(), event_id"),
    )
    now = [lead(1, 8, source="newest"), lead(2, 99, source="newest"), lead(3, 9, source="newest")]
    late = lead(0, idempotency_key="late", id=event_id("acme", "late"), event_id=event_id("acme", "late"))
    looked = repair.known

    def meanwhile(*words: Any) -> set[bytes]:
        """The lake gets news, and deliver delivers it, right before anything is written."""
        monkeypatch.setattr(repair, "known", looked)
        enter(lake, *now, late)
        lake.deliver()
        return looked(*words)

    monkeypatch.setattr(repair, "known", meanwhile)
    found = lake.reconcile(to="postgres", repair=True)["postgres"]
    assert found["left"] == NOTHING
    query = "SELECT source, row_version FROM leads {} ORDER BY row_version"
    assert asked(database, query.format(numbered(1, 2, 3))) == [("newest", 8), ("newest", 9), ("newest", 99)]
    assert asked(database, "SELECT row_version FROM leads WHERE idempotency_key = 'late'") == [(5,)]


def test_what_cannot_be_done_is_said(lake: Lake, database: str) -> None:
    with pytest.raises(SetupError, match="no destination 'redis' that can be compared; known: elastic"):
        lake.reconcile(to="redis")
    did(database, f"DELETE FROM leads {numbered(1)}")
    with instance_lock(lake.settings.lake_root, "repair.leads"), pytest.raises(LockedError):
        lake.reconcile(to="postgres", repair=True)
    assert lake.counted(to="postgres") == ["postgres: 1 rows missing"]
