"""PostgresSink and the migrations against a real server, in a database made for this module."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from headwater.errors import SetupError, TransientError
from headwater.identity import event_id
from headwater.settings import ROOT, Settings, load_settings
from local.postgres import dsn
from schemas import migrate
from schemas.tables import LEADS
from sinks import postgres as sink_module
from sinks import postgres_tables
from sinks.postgres import LEAD_COLUMNS, PostgresSink
from sinks.postgres_copy import stage
from sinks.postgres_lines import CopyTarget
from tests.integration.broker import eventually
from tests.integration.outbox_harness import new_database, settings_of

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
NASTY = [
    "", " ", "\\N", "\\", "\\\\.", "\\.", "a\tb", "a\nb", "a\r\nb", "\x08\x0b\x0c", "\x7f\x01",
    "'\"''", "NULL", "\\t", "\\\t\\\n", "ÄÖ", "e\u0301", "😀👩‍👩‍👧", "\u202eabc",
    "\ufeffx", "{1,2}", "$1", "%s", "\u2028",
]  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The name of an empty database that the owner owns."""
    with new_database() as name:
        yield name


@pytest.fixture(scope="module")
def migrated(database: str) -> tuple[Settings, list[list[str]]]:
    """Settings of the database after two starters migrated it at once, and what each applied."""
    there = settings_for(database)
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate.upgrade, [there, there]))
    return there, applied


@pytest.fixture
def sink(migrated: tuple[Settings, list[list[str]]]) -> PostgresSink:
    made = PostgresSink(migrated[0])
    made.setup()
    made.reset()
    return made


def settings_for(database: str, **changes: object) -> Settings:
    """Local settings with this database; `changes` are of the section postgres."""
    base = settings_of(database)
    return base.model_copy(update={"postgres": base.postgres.model_copy(update=changes)})


def lead(key: str, version: int = 1, **changes: object) -> dict[str, Any]:
    row = dict.fromkeys((entry.split()[0] for entry in LEADS.columns.split(",")), None)
    fixed = {
        "id": event_id("acme", key), "event_id": event_id("acme", key), "tenant_id": "acme",
        "idempotency_key": key, "source": "web", "email": "ada@example.com", "consent": True,
        "received_at": NOON, "event_time": NOON, "ip_address": "2001:db8::1", "metadata": '{"a": [1, "b"]}',
        "row_version": version, "source_topic": "lead.ingest",
        "source_partition": 3, "source_offset": version,
    }  # fmt: skip
    return row | fixed | changes


def frame(spark: SparkSession, *leads: dict[str, Any]) -> DataFrame:
    return spark.createDataFrame([tuple(row.values()) for row in leads], LEADS.columns)


def stored(database: str, columns: str = "idempotency_key, row_version, source") -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", database)) as connection:
        query = f"SELECT {columns} FROM leads ORDER BY idempotency_key"  # noqa: S608 - the test's own words
        return connection.execute(query.encode()).fetchall()


def outcome(sink: PostgresSink, batch: DataFrame) -> tuple[int, int, int]:
    written = sink.write(batch)
    return written.inserted, written.updated, written.unchanged


def test_two_starters_at_once_migrate_once(migrated: tuple[Settings, list[list[str]]]) -> None:
    versions = (ROOT / "schemas" / "migrations" / "versions").glob("[0-9]*.py")
    assert sorted(migrated[1], key=len) == [[], sorted(file.name[:4] for file in versions)]


def test_a_missing_role_is_named_with_the_sql_that_makes_it(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "ROLES", ("headwater_owner", "headwater_ghost"))
    with pytest.raises(SetupError, match="CREATE ROLE headwater_ghost LOGIN PASSWORD"):
        migrate.upgrade(settings_for(database))


def test_an_owner_that_does_not_own_the_database_is_told_what_to_run(database: str) -> None:
    writer = dsn("headwater_writer", "postgres-writer", database)
    with pytest.raises(SetupError, match=f"ALTER DATABASE {database} OWNER TO headwater_writer"):
        migrate.upgrade(settings_for(database, owner_dsn=writer, owner_password=None))


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("writer", "DELETE FROM leads"),
        ("writer", "DROP TABLE leads"),
        ("writer", "CREATE TABLE mine (a int)"),
        ("writer", "SELECT * FROM leads_masked"),
        ("writer", "UPDATE staging.leads SET email = ''"),
        ("api", "SELECT 1 FROM leads"),
        ("api", "SELECT 1 FROM leads_masked"),
        ("api", "SELECT 1 FROM staging.leads"),
        ("api", "CREATE TABLE mine (a int)"),
        ("reader", "SELECT 1 FROM leads"),
        ("reader", "INSERT INTO leads_masked (source) VALUES ('x')"),
        ("reader", "SELECT 1 FROM staging.leads"),
        ("reader", "CREATE TABLE mine (a int)"),
    ],
)
def test_a_role_is_refused_what_is_not_its_own(
    sink: PostgresSink, database: str, role: str, statement: str
) -> None:
    with psycopg.connect(dsn(f"headwater_{role}", f"postgres-{role}", database)) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_a_reader_sees_leads_without_the_person(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    person: dict[str, Any] = {
        "first_name": "Ada",
        "phone": "+14155550123",
        "message": "call me",
        "ip_address": "203.0.113.7",
    }
    sink.write(frame(spark, lead("k1", **person)))
    with psycopg.connect(dsn("headwater_reader", "postgres-reader", database)) as connection:
        row = connection.execute(
            "SELECT l::text, email, phone, ip_address::text FROM leads_masked l"
        ).fetchone()
    assert row is not None
    assert row[1:] == ("***@example.com", "***23", "203.0.0.0/16")
    assert not [word for word in ("ada", "Ada", "call me", "555", "113.7", "k1") if word in row[0]]


def test_the_same_batch_twice_leaves_the_same_state(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    batch = frame(spark, *(lead(f"k{i}") for i in range(20)))
    assert outcome(sink, batch) == (20, 0, 0)
    once = stored(database, "*")
    assert outcome(sink, batch) == (0, 0, 20)
    assert stored(database, "*") == once


def test_a_column_arrives_with_its_value_and_microseconds(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    sink.write(frame(spark, lead("k", consent=False)))
    row = stored(database, "id::text, received_at, consent, host(ip_address), metadata, phone, updated_at")[0]
    assert row[:6] == (event_id("acme", "k"), NOON, False, "2001:db8::1", {"a": [1, "b"]}, None)
    assert row[6] is not None


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (2, 1, 3)])
def test_old_never_overwrites_new_whatever_the_order(
    sink: PostgresSink, database: str, spark: SparkSession, order: tuple[int, ...]
) -> None:
    for version in order:
        sink.write(frame(spark, lead("k", version, source=f"v{version}")))
    assert stored(database) == [("k", 3, "v3")]


def test_of_doubles_in_a_batch_the_newest_stays(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    doubles = [lead("k", version, source=f"v{version}") for version in (2, 9, 4)]
    assert outcome(sink, frame(spark, *doubles, lead("other"))) == (2, 0, 2)
    assert stored(database) == [("k", 9, "v9"), ("other", 1, "web")]


def test_the_same_key_of_two_tenants_is_two_leads(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    globex = lead("k", tenant_id="globex", id=event_id("globex", "k"))
    assert outcome(sink, frame(spark, lead("k"), globex)) == (2, 0, 0)


def test_bad_rows_are_rejected_alone_and_the_rest_of_a_thousand_lands(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    leads = [lead(f"k{i}", i + 1) for i in range(1000)]
    leads[77]["ip_address"] = "999.1.1.1"
    leads[500]["source"] = "x" * 51
    leads[999]["email"] = None
    written = sink.write(frame(spark, *leads))
    found = {(r.source_offset, r.code, r.rule) for r in written.rejected}
    assert found == {(78, "22P02", None), (501, "22001", None), (1000, "23502", "email")}
    assert {(r.source_topic, r.source_partition, r.tenant_id) for r in written.rejected} == {
        ("lead.ingest", 3, "acme")
    }
    assert (written.inserted, len(stored(database))) == (997, 997)


def test_a_nul_is_rejected_alone(sink: PostgresSink, database: str, spark: SparkSession) -> None:
    written = sink.write(frame(spark, lead("a"), lead("b", 2, message="x\0y"), lead("c")))
    assert [(r.source_offset, r.code) for r in written.rejected] == [(2, "22021")]
    assert [row[0] for row in stored(database)] == ["a", "c"]


def test_awkward_text_survives_byte_by_byte(sink: PostgresSink, database: str, spark: SparkSession) -> None:
    sink.write(frame(spark, *(lead(f"k{i:03}", message=text) for i, text in enumerate(NASTY))))
    assert [row[0] for row in stored(database, "message")] == NASTY


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=50))
def test_any_text_survives(sink: PostgresSink, database: str, spark: SparkSession, texts: list[str]) -> None:
    sink.reset()
    sink.write(frame(spark, *(lead(f"k{i:05}", message=text) for i, text in enumerate(texts))))
    assert [row[0] for row in stored(database, "message")] == texts


def test_rows_of_another_attempt_are_ignored_and_swept(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    columns = ", ".join(LEAD_COLUMNS)
    target = CopyTarget(
        dsn("headwater_writer", "postgres-writer", database),
        f"COPY staging.leads (attempt, {columns}) FROM STDIN (FORMAT csv)".encode(),
    )
    orphans = stage(frame(spark, lead("orphan")), target, uuid.uuid4(), LEAD_COLUMNS, 1)
    sink.write(frame(spark, lead("k")))
    with psycopg.connect(target.conninfo) as connection:
        left = connection.execute("SELECT count(*) FROM staging.leads").fetchone()
    assert (orphans.rows, stored(database), left) == (1, [("k", 1, "web")], (0,))


def test_a_crash_before_the_commit_leaves_nothing_and_a_second_write_heals(
    sink: PostgresSink, database: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(query: str, point: str) -> None:
        raise RuntimeError(f"{query}:{point}")

    with (
        monkeypatch.context() as patched,
        pytest.raises(RuntimeError, match=r"deliver\.leads\.postgres:in_transaction"),
    ):
        patched.setattr(sink_module, "fail_at", crash)
        sink.write(frame(spark, lead("k")))
    assert stored(database) == []
    assert outcome(sink, frame(spark, lead("k"))) == (1, 0, 0)


def test_an_empty_batch_writes_nothing(sink: PostgresSink, spark: SparkSession) -> None:
    assert outcome(sink, frame(spark, lead("k")).where("false")) == (0, 0, 0)


def test_a_refused_connection_is_an_outage_on_the_driver_and_in_a_task(spark: SparkSession) -> None:
    nowhere = settings_for("headwater", dsn="postgresql://headwater_writer@127.0.0.1:9/headwater")
    with pytest.raises(TransientError):
        PostgresSink(nowhere).setup()
    target = CopyTarget(nowhere.postgres.dsn, b"COPY staging.leads FROM STDIN (FORMAT csv)")
    assert stage(frame(spark, lead("k")), target, uuid.uuid4(), ["id"], 1).sqlstate == "08006"


def test_a_lock_that_is_not_given_is_an_outage(
    sink: PostgresSink, database: str, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "SESSION", "-c lock_timeout=300ms")
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", database)) as blocker:
        blocker.execute("LOCK TABLE leads IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TransientError, match="55P03"):
            PostgresSink(settings_for(database)).write(frame(spark, lead("k")))


def test_a_deadlock_is_an_outage_and_the_next_write_heals_it(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    sink.write(frame(spark, lead("a"), lead("b")))
    change = "UPDATE leads SET source = 'theirs' WHERE idempotency_key = %s"
    server = dsn("postgres", "postgres-superuser", database)
    with psycopg.connect(server) as other, ThreadPoolExecutor(1) as pool:
        other.execute(
            "SET deadlock_timeout = '60s'"
        )  # the sink finds it first, and is the one that gives way
        other.execute(change, ("b",))
        writing = pool.submit(sink.write, frame(spark, lead("a", 2), lead("b", 2)))
        eventually(lambda: sessions(database, "wait_event_type = 'Lock'"), "the sink has a and waits for b")
        other.execute(change, ("a",))
        with pytest.raises(TransientError, match="40P01"):
            writing.result(60)
        other.rollback()
    assert outcome(sink, frame(spark, lead("a", 2), lead("b", 2))) == (0, 2, 0)


def test_a_server_that_goes_in_mid_copy_is_an_outage_and_the_next_write_heals_it(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    rows = spark.range(40_000).selectExpr("concat('k', id) AS idempotency_key", "uuid() AS id")
    one = frame(spark, lead("k")).drop("idempotency_key", "id")
    batch = rows.crossJoin(one).select(*frame(spark, lead("k")).columns).persist()
    batch.count()
    copies = "query LIKE 'COPY%' AND state = 'active'"
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(sink.write, batch)
        eventually(lambda: sessions(database, copies, "pg_terminate_backend(pid)"), "a COPY was ended")
        with pytest.raises(TransientError, match=r"57P01|08006"):
            writing.result(60)
    assert stored(database) == []
    assert outcome(sink, batch) == (40_000, 0, 0)
    batch.unpersist()


def sessions(database: str, where: str, what: str = "pid") -> list[tuple[Any, ...]]:
    """Of the writer's sessions those that are in a state."""
    ours = "datname = current_database() AND usename = 'headwater_writer'"
    query = f"SELECT {what} FROM pg_stat_activity WHERE {ours} AND {where}"  # noqa: S608 - the test's own words
    with psycopg.connect(dsn("postgres", "postgres-superuser", database)) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_wrong_password_is_a_setup_fault(database: str) -> None:
    wrong = f"postgresql://headwater_writer:wrong@{load_settings('local').postgres.dsn.split('@')[1]}"
    with pytest.raises(SetupError, match=r"check postgres\.dsn"):
        PostgresSink(settings_for(database, dsn=wrong, password=None)).setup()


def test_a_missing_table_or_column_says_run_migrate(migrated: tuple[Settings, list[list[str]]]) -> None:
    with pytest.raises(SetupError, match=r"the table public.nothing: run `python -m jobs migrate`"):
        PostgresSink(migrated[0], table=replace(postgres_tables.LEADS, name="nothing")).setup()
    with pytest.raises(SetupError, match=r"columns shoe_size of public.leads"):
        wider = replace(postgres_tables.LEADS, columns=[*LEAD_COLUMNS, "shoe_size"])
        PostgresSink(migrated[0], table=wider).setup()


def test_a_missing_right_in_a_task_is_a_setup_fault(
    sink: PostgresSink, database: str, spark: SparkSession
) -> None:
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", database), autocommit=True) as owner:
        owner.execute("REVOKE INSERT ON staging.leads FROM headwater_writer")
        try:
            with pytest.raises(SetupError, match="42501"):
                sink.write(frame(spark, lead("k")))
        finally:
            owner.execute("GRANT INSERT ON staging.leads TO headwater_writer")


def test_no_fault_quotes_a_row(
    sink: PostgresSink, database: str, spark: SparkSession, capfd: pytest.CaptureFixture[str]
) -> None:
    far = NOON + timedelta(days=1)
    sink.write(frame(spark, lead("canary-key", email="canary@example.com", source="x" * 60, received_at=far)))
    seen = capfd.readouterr()
    assert "canary" not in seen.out + seen.err
