# ruff: noqa: S608 - the test's own words
"""reconcile --repair of the interactions: four tables of PostgreSQL, and hot state in Redis."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from redis import Redis

from headwater.clock import utc_now
from headwater.settings import load_settings
from local.redis import admin
from tests.flow.test_build import append, batches, run
from tests.integration.interactions_harness import check, check_redis
from tests.integration.outbox_harness import migrated_database, settings_of
from tests.integration.repair_harness import Lake, did

NUMBER = 13  # of a database in Redis that nothing else uses


@pytest.fixture
def client() -> Iterator[Redis]:
    with admin(NUMBER) as made:
        made.flushdb()
        yield made
        made.flushdb()


@pytest.fixture
def database() -> Iterator[str]:
    with migrated_database() as name:
        yield name


@pytest.fixture
def lake(spark: SparkSession, client: Redis, database: str, tmp_path: Path) -> Lake:
    """Silver of now, gold, and both destinations as delivered."""
    redis = load_settings("local").redis
    own = redis.model_copy(update={"url": f"{redis.url.rsplit('/', 1)[0]}/{NUMBER}"})
    settings = settings_of(database, lake=str(tmp_path / "lake"), redis=own)
    (tables,) = batches(1, 400)
    append(spark, settings, {name: _of_now(rows) for name, rows in tables.items()})
    run(spark, settings, "agent_turns", "usage")
    made = Lake(spark, settings, "interactions", "postgres", "redis")
    made.deliver()
    return made


def _of_now(rows: pa.Table) -> pa.Table:
    """Hot state is that of the last day."""
    at = rows.column_names.index("refined_at")
    moments = pa.array([utc_now()] * rows.num_rows, rows.schema.field(at).type)
    return rows.set_column(at, "refined_at", moments)


def one_of(table: str) -> str:
    return f"ctid = (SELECT min(ctid) FROM {table})"


def test_silver_and_gold_in_postgres_and_hot_state_in_redis_are_put_right(
    lake: Lake, database: str, client: Redis
) -> None:
    check(lake.settings, database)
    check_redis(lake.settings, client)
    did(
        database,
        f"DELETE FROM agent_turns WHERE {one_of('agent_turns')}",
        f"UPDATE agent_turns SET model = 'x', row_version = row_version + 1 WHERE {one_of('agent_turns')}",
        f"UPDATE frontend_analytics SET row_version = 0 WHERE {one_of('frontend_analytics')}",
        f"UPDATE session_kpis SET session_id = 'nobody' WHERE {one_of('session_kpis')}",
        f"UPDATE billing_usage SET quantity = quantity + 1 WHERE {one_of('billing_usage')}",
    )
    states = sorted(client.scan_iter("*:session:*:state"))
    gone, old, changed, ahead, bare, lasting = states[:6]
    client.delete(gone)
    client.hset(old, mapping={"n": "0" * 20 + ".1.1", "v": "{}"})
    client.hset(changed, "v", "{}")
    client.hset(ahead, mapping={"n": "9" * 20, "v": "{}"})
    client.hdel(bare, "n", "v")
    client.hset(bare, "other", "x")
    client.persist(lasting)
    client.hset("acme:session:nobody:state", mapping={"n": "1", "v": "{}"})
    assert lake.counted() == [
        "postgres.agent_turns: 1 rows missing", "postgres.agent_turns: 1 rows different",
        "postgres.frontend_analytics: 1 rows older",
        "postgres.session_kpis: 1 rows missing", "postgres.session_kpis: 1 rows extra",
        "postgres.billing_usage: 1 rows different",
        "redis.state: 1 rows missing", "redis.state: 1 rows extra", "redis.state: 2 rows older",
        "redis.state: 2 rows different",
    ]  # fmt: skip
    found = lake.reconcile(repair=True)
    assert sum(sum(side.get("repaired", {}).values()) for side in found.values()) == 12
    client.expire(lasting, 86_000)
    check(lake.settings, database)
    check_redis(lake.settings, client)
    assert not any("repaired" in side for side in lake.reconcile(repair=True).values())
    some = lake.reconcile(sample=10)
    assert all(side["silver"] == side["found"] == side["sampled"]["keys"] for side in some.values())
    assert 0 < some["redis.state"]["found"] < len(states)
