"""RedisSink against a real server, in a database number that nothing else uses."""

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from pydantic import SecretStr
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from redis import Redis

from headwater.clock import utc_now
from headwater.errors import HeadwaterError, SetupError, TransientError
from headwater.settings import Settings, load_settings
from jobs.sides_redis import redis_side
from local.redis import admin
from schemas.gold import SESSION_KPIS
from schemas.tables import AGENT_SESSIONS, Table
from sinks.base import Written
from sinks.redis import LONGEST_MESSAGE, METRICS, STATE, TTL_S, HotState, RedisSink

BASE = load_settings("local")
NUMBER = 15
BEYOND_DOUBLES = 2**53
TEN = datetime(2025, 1, 1, 10, tzinfo=UTC)
QUERY = "deliver.interactions.redis"
Way = Callable[[DataFrame], DataFrame | pa.Table]


def settings_with(**changes: Any) -> Settings:
    redis = BASE.redis.model_copy(update={"url": f"{BASE.redis.url.rsplit('/', 1)[0]}/{NUMBER}", **changes})
    return BASE.model_copy(update={"redis": redis})


@pytest.fixture
def client() -> Iterator[Redis]:
    with admin(NUMBER) as made:  # also looks at, and takes away, what the writer may not
        yield made


@pytest.fixture
def tenant(client: Redis) -> Iterator[str]:
    """One that no other test has; its keys are gone afterwards."""
    name = f"t{uuid.uuid4().hex[:12]}"
    yield name
    if left := list(client.scan_iter(f"{name}*")):
        client.delete(*left)


def sink(state: HotState, settings: Settings | None = None) -> RedisSink:
    made = RedisSink(settings or settings_with(), QUERY, state)
    if settings is None:
        made.setup()
    return made


def frame(spark: SparkSession, table: Table, *rows: dict[str, Any]) -> DataFrame:
    names = [field.name for field in spark.createDataFrame([], table.columns).schema]
    common = {"event_time": TEN, "refined_at": utc_now(), "row_version": 1, "session_id": "s"}
    listed = [[(common | row).get(name) for name in names] for row in rows]
    return spark.createDataFrame(listed, table.columns)


def states(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    return frame(spark, AGENT_SESSIONS, *rows)


def as_they_are(rows: DataFrame) -> DataFrame:
    return rows


def here(rows: DataFrame) -> pa.Table:
    """On the driver."""
    return rows.toArrow()


def seqs(client: Redis, tenant: str) -> dict[str, int]:
    """`seq` of each session's state."""
    keys = list(client.scan_iter(f"{tenant}:session:*:state"))
    return {key.split(":")[2]: json.loads(client.hget(key, "v") or "null")["seq"] for key in keys}


@pytest.mark.parametrize("way", [as_they_are, here])
def test_a_state_has_the_fields_that_its_readers_know(
    spark: SparkSession, client: Redis, tenant: str, way: Way
) -> None:
    said = {
        "last_turn_id": "turn_123",
        "last_message": 'Grüße, "はい"\n\\',
        "seq": 42,
        "channel": "text",
        "status": "active",
    }
    rows = states(spark, {"tenant_id": tenant, **said}, {"tenant_id": tenant, "session_id": "n"})
    assert sink(STATE).write(way(rows)) == Written(2, 0, 0)
    found = client.hget(f"{tenant}:session:s:state", "v")
    names = ["last_turn_id", "last_message", "seq", "updated_at", "channel", "status"]
    assert list(json.loads(found)) == names
    assert json.loads(found) == {**said, "updated_at": "2025-01-01T10:00:00.000Z"}
    nothing = json.loads(client.hget(f"{tenant}:session:n:state", "v"))
    assert list(nothing) == names and nothing["last_turn_id"] is None


@pytest.mark.parametrize("way", [as_they_are, here])
def test_metrics_have_the_fields_that_their_readers_know(
    spark: SparkSession, client: Redis, tenant: str, way: Way
) -> None:
    row = {"tenant_id": tenant, "turns": 5, "avg_latency_ms": 1200.5, "ended_at": TEN, "user_id": "u"}
    sink(METRICS).write(way(frame(spark, SESSION_KPIS, row)))
    assert json.loads(client.hget(f"{tenant}:session:s:metrics", "v")) == {
        "total_turns": 5,
        "avg_response_time": 1200.5,
        "last_activity": "2025-01-01T10:00:00.000Z",
    }


@pytest.mark.parametrize("first", [1, BEYOND_DOUBLES, 2**62])
def test_old_never_overwrites_new_whatever_the_order(
    spark: SparkSession, client: Redis, tenant: str, first: int
) -> None:
    made = sink(STATE)
    for number, order in enumerate(permutations((0, 1, 2))):
        rows = [
            {"tenant_id": tenant, "session_id": f"o{number}", "row_version": first + step, "seq": step}
            for step in order
        ]
        made.write(states(spark, *rows).coalesce(1))
        made.write(here(states(spark, *[row | {"session_id": f"h{number}"} for row in rows])))
    assert seqs(client, tenant) == dict.fromkeys([f"{way}{number}" for way in "oh" for number in range(6)], 2)


def test_of_states_of_one_millisecond_the_highest_seq_is_kept_and_reconcile_expects_it(
    spark: SparkSession, client: Redis, tenant: str
) -> None:
    made, side = sink(STATE), redis_side(AGENT_SESSIONS, STATE)
    for number, order in enumerate(permutations((0, 1, 2))):
        # The same offset in three partitions: the version is the same.
        rows = [
            {
                "tenant_id": tenant,
                "session_id": f"o{number}",
                "seq": step or None,
                "source_partition": 2 - step,
            }
            for step in order
        ]
        batch = states(spark, *rows).coalesce(1)
        made.write(batch)
        newest = batch.agg(F.max_by("seq", side.newest())).collect()[0][0]
        assert newest == 2
    assert seqs(client, tenant) == dict.fromkeys([f"o{number}" for number in range(6)], 2)


def test_the_same_batch_twice_leaves_the_same_state(spark: SparkSession, client: Redis, tenant: str) -> None:
    made = sink(STATE)
    count = 1_201  # more than two round trips of a task
    batch = states(
        spark, *[{"tenant_id": tenant, "session_id": f"s{n}", "seq": n} for n in range(count)]
    ).persist()
    first = made.write(batch)
    once = seqs(client, tenant)
    again = made.write(batch)
    newer = made.write(states(spark, {"tenant_id": tenant, "session_id": "s7", "seq": 8, "row_version": 2}))
    assert [(w.inserted, w.updated, w.unchanged) for w in (first, again, newer)] == [
        (count, 0, 0), (0, 0, count), (0, 1, 0),
    ]  # fmt: skip
    assert once == {f"s{n}": n for n in range(count)}
    assert seqs(client, tenant) == {**once, "s7": 8}
    batch.unpersist()


def test_a_state_lives_for_a_day_from_when_it_came(spark: SparkSession, client: Redis, tenant: str) -> None:
    now = utc_now()
    ages = {
        "new": timedelta(0),
        "hour": timedelta(hours=1),
        "day": timedelta(days=1),
        "week": timedelta(days=7),
    }
    rows = [{"tenant_id": tenant, "session_id": n, "refined_at": now - age} for n, age in ages.items()]
    sink(STATE).write(states(spark, *rows))
    left = {name: client.ttl(f"{tenant}:session:{name}:state") for name in ages}
    assert TTL_S == 86_400
    assert TTL_S - 60 < left["new"] <= TTL_S
    assert TTL_S - 3660 < left["hour"] <= TTL_S - 3600
    assert {left["day"], left["week"]} == {-2}  # there is no such key


def test_a_row_of_long_ago_takes_nothing_newer_away(spark: SparkSession, client: Redis, tenant: str) -> None:
    made = sink(STATE)
    made.write(states(spark, {"tenant_id": tenant, "row_version": 2, "seq": 2}))
    before = client.pexpiretime(f"{tenant}:session:s:state")
    old = {"tenant_id": tenant, "seq": 1, "refined_at": utc_now() - timedelta(days=3)}
    made.write(states(spark, old))
    assert seqs(client, tenant) == {"s": 2}
    assert client.pexpiretime(f"{tenant}:session:s:state") == before


def test_a_long_message_is_cut(spark: SparkSession, client: Redis, tenant: str) -> None:
    sink(STATE).write(states(spark, {"tenant_id": tenant, "last_message": "ß" * 100_000}))
    kept = json.loads(client.hget(f"{tenant}:session:s:state", "v"))["last_message"]
    assert kept == "ß" * LONGEST_MESSAGE


def test_removing_leaves_what_is_newer(spark: SparkSession, client: Redis, tenant: str) -> None:
    made = sink(STATE)
    versions = {"older": 4, "same": 5, "newer": 6}
    rows = [{"tenant_id": tenant, "session_id": n, "row_version": v} for n, v in versions.items()]
    made.write(states(spark, *rows))
    asked = [{"tenant_id": tenant, "session_id": n, "row_version": 5} for n in (*versions, "nobody")]
    assert made.remove(states(spark, *asked)) == 2
    assert seqs(client, tenant).keys() == {"newer"}


def test_a_reset_takes_its_own_kind_and_nothing_else(spark: SparkSession, client: Redis, tenant: str) -> None:
    sink(STATE).write(states(spark, *[{"tenant_id": tenant, "session_id": f"s{n}"} for n in range(600)]))
    sink(METRICS).write(frame(spark, SESSION_KPIS, {"tenant_id": tenant, "session_id": "s1"}))
    others = [f"{tenant}:rate", f"{tenant}:session:s1:stated", f"{tenant}:session:s1:state:x"]
    for key in others:
        client.set(key, "theirs")
    sink(STATE).reset()
    # A scan may name a key twice.
    assert set(client.scan_iter(f"{tenant}*")) == {f"{tenant}:session:s1:metrics", *others}


def where() -> str:
    at = urlsplit(BASE.redis.url)
    return f"{at.hostname}:{at.port}"


@pytest.mark.parametrize(
    ("url", "password", "kind"),
    [
        (f"redis://:geheim-1@{where()}/{NUMBER}", None, SetupError),
        (f"redis://{where()}/{NUMBER}", SecretStr("geheim-1"), SetupError),
        (f"redis://{where()}/{NUMBER}", None, SetupError),
        ("redis://:geheim-1@127.0.0.1:9/0", None, TransientError),
    ],
    ids=["wrong in the address", "wrong password", "no password", "no server"],
)
def test_a_refused_login_is_a_setup_fault_and_no_server_an_outage_and_neither_quotes_a_value(
    spark: SparkSession,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    url: str,
    password: SecretStr | None,
    kind: type[HeadwaterError],
) -> None:
    caplog.set_level(logging.INFO)
    made = sink(STATE, settings_with(url=url, password=password))
    row = states(spark, {"tenant_id": "canary-t", "session_id": "canary-s", "last_message": "canary-m"})
    writes = [lambda: made.write(row), lambda: made.write(here(row))]
    for ask in (made.setup, *writes, lambda: made.remove(row), made.reset):
        with pytest.raises(kind) as fault:
            ask()
        assert "geheim" not in str(fault.value) and "canary" not in str(fault.value)
        assert fault.value.__cause__ is None
    seen = capfd.readouterr()
    for word in ("geheim", "canary"):
        assert word not in seen.out + seen.err + caplog.text
