"""deliver.interactions.postgres: silver and gold of a lake against four tables of a real server."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from delta.tables import DeltaTable
from psycopg import sql
from pyspark.sql import SparkSession

from headwater.settings import Settings
from headwater.tables import append_rows, ensure_table, table_path
from jobs.build import Build
from jobs.deliver import Deliver
from jobs.queries import Context
from jobs.runtime import Runtime
from local.postgres import dsn
from schemas.contract import domain_contracts
from schemas.tables import DEAD_LETTERS, USAGE
from sinks.postgres_tables import BILLING_USAGE, SESSION_KPIS
from tests.flow.test_build import append, batches, run
from tests.flow.usage_lake import UsageLake, in_silver, used
from tests.integration.interactions_harness import TABLES, check, in_lake, in_postgres
from tests.integration.outbox_harness import migrated_database, settings_of

FED = ("agent_turns", "usage")
QUERY = "deliver.interactions.postgres"
revision = import_module("schemas.migrations.versions.0007_interactions")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture
def lake(database: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings with an empty lake, and with empty tables in the database."""
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", database)) as connection:
        for table in TABLES.values():
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table.name)))
    yield settings_of(database, lake=str(tmp_path / "lake"))
    shutil.rmtree(tmp_path)


def deliver(spark: SparkSession, settings: Settings, *, from_start: bool = False) -> Context:
    context = Context(spark, settings, "test", from_start=from_start)
    Runtime(context, once=True).run([Deliver(context, "interactions", "postgres")])
    return context


def test_the_four_tables_follow_silver_and_gold_and_bear_a_repeated_batch(
    spark: SparkSession, lake: Settings, database: str
) -> None:
    first, second = batches(2, 400)
    append(spark, lake, first)
    run(spark, lake, *FED)
    deliver(spark, lake)
    before = check(lake, database)
    append(spark, lake, second)
    run(spark, lake, *FED)
    checkpoints = Path(lake.lake_root) / "_checkpoints"
    shutil.copytree(checkpoints / QUERY, checkpoints / "kept")
    deliver(spark, lake)
    once = check(lake, database)
    assert all(once[name].keys() >= before[name].keys() for name in TABLES)
    assert all(once[name] != before[name] for name in TABLES)
    shutil.rmtree(checkpoints / QUERY)
    (checkpoints / "kept").rename(checkpoints / QUERY)
    assert deliver(spark, lake).totals.rows_in > 0
    assert check(lake, database) == once


def test_a_session_that_gold_has_no_more_goes_and_comes_again(
    spark: SparkSession, lake: Settings, database: str
) -> None:
    (rows,) = batches(1, 400)
    append(spark, lake, rows)
    run(spark, lake, *FED)
    deliver(spark, lake)
    everyone = check(lake, database)["gold.session_kpis"]
    DeltaTable.forPath(spark, table_path(lake, "silver.agent_turns")).delete("tenant_id = 'acme'")
    run(spark, lake, "agent_turns", from_start=True)
    deliver(spark, lake)
    left = in_postgres(database, SESSION_KPIS)
    assert left == in_lake(lake, "gold.session_kpis")
    assert left.keys() == {key for key in everyone if key[0] != "acme"} < everyone.keys()
    append(spark, lake, {"agent_turns": rows["agent_turns"]})
    run(spark, lake, "agent_turns")
    deliver(spark, lake)
    assert check(lake, database)["gold.session_kpis"].keys() == everyone.keys()


def test_from_the_start_the_tables_are_emptied_and_filled_again(
    spark: SparkSession, lake: Settings, database: str
) -> None:
    for rows in batches(2, 200):
        append(spark, lake, rows)
        run(spark, lake, *FED)
        deliver(spark, lake)
    before = check(lake, database)
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", database)) as connection:
        connection.execute("UPDATE agent_turns SET model = 'ghost', row_version = row_version + 1")
        connection.execute("UPDATE session_kpis SET session_id = 'ghost ' || session_id")
        connection.execute("DELETE FROM billing_usage")
    deliver(spark, lake, from_start=True)
    assert check(lake, database) == before


def test_a_row_that_postgres_refuses_is_one_dead_letter_and_the_rest_lands(
    spark: SparkSession, lake: Settings, database: str
) -> None:
    usage = UsageLake(spark, lake)
    noon = datetime(2026, 2, 1, 12, tzinfo=UTC)
    events = [used(f"e{n}", noon + timedelta(hours=n // 2), metric="api_calls") for n in range(6)]
    usage.arrive(events)
    rows = in_silver(events, 0)
    longest = [Decimal("99999999999999.999999")] * 2 + [Decimal(1)] * 4
    column = rows.column_names.index("quantity")
    rows = rows.set_column(column, "quantity", pa.array(longest, pa.decimal128(20, 6)))
    ensure_table(spark, lake, USAGE)
    append_rows(spark, rows, lake, USAGE.full_name)
    context = usage.run(Build)
    assert context.written["gold.billing_usage"]
    totals = deliver(spark, lake).totals
    assert (totals.rows_out, totals.dead) == (2, 1)
    hours = sorted(key[2] for key in in_postgres(database, BILLING_USAGE))
    assert hours == [noon + timedelta(hours=1), noon + timedelta(hours=2)]
    (letter,) = usage.table(DEAD_LETTERS.full_name)
    assert (letter["stage"], letter["tenant_id"], letter["payload"]) == ("sink:postgres", "acme", events[1])
    assert (letter["stream"], letter["source_offset"]) == ("billing.usage.metered", 1)
    (reason,) = letter["reasons"]
    assert reason["code"] == "sink_rejected" and "22003" in reason["message"]
    deliver(spark, lake, from_start=True)
    assert usage.table(DEAD_LETTERS.full_name) == [letter]


# {} is each of the four tables.
REFUSED = {
    "reader": ["SELECT 1 FROM {}", "SELECT 1 FROM staging.{}", "DELETE FROM {}_masked"],
    "writer": [
        "SELECT 1 FROM {}_masked",
        "DROP TABLE {}",
        "ALTER TABLE staging.{} SET LOGGED",
        "UPDATE staging.{} SET row_version = ''",
    ],
    "api": ["SELECT 1 FROM {}", "SELECT 1 FROM {}_masked"],
}
# Of silver, from which no row goes.
KEPT = ["DELETE FROM agent_turns", "DELETE FROM frontend_analytics"]


def test_a_role_is_refused_what_is_not_its_own(database: str) -> None:
    asked = [
        (role, text.format(name))
        for role, texts in REFUSED.items()
        for text in texts
        for name in revision.TABLES
    ]
    for role, statement in [*asked, *[("writer", text) for text in KEPT]]:
        with psycopg.connect(dsn(f"headwater_{role}", f"postgres-{role}", database)) as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
                pytest.fail(f"{role} may {statement}")


def test_a_reader_sees_every_table_without_the_person(database: str) -> None:
    personal = {
        field.name
        for contract in domain_contracts("interactions").values()
        for field in contract.leaves
        if field.personal
    }
    assert {"user_id", "response_text", "page_url"} <= personal
    with psycopg.connect(dsn("headwater_reader", "postgres-reader", database)) as connection:
        for table in TABLES.values():
            shown = connection.execute(
                sql.SQL("SELECT * FROM {}").format(sql.Identifier(f"{table.name}_masked"))
            )
            names = {column.name for column in shown.description or []}
            assert names >= set(table.key)
            assert not names & {*personal, "metadata"}
