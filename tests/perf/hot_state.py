"""`python -m tests.perf.hot_state`: a write of 500 rows to PostgreSQL, a read of hot state from Redis.

Needs the local stack, no Spark. Rows are written as small batches are, from the driver, into a database of
their own; each write is a batch of new turns and turns that are there. Redis gets sessions by the sink's own
script and is read one key at a time; they are taken away afterwards.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Annotated

import pyarrow as pa
import typer

from local.places import say
from local.redis import admin
from schemas import migrate
from sinks.postgres import PostgresSink
from sinks.postgres_tables import AGENT_TURNS
from sinks.redis import SET_IF_NEWER, STATE, TTL_S
from tests.integration.outbox_harness import new_database, settings_of

NOW = datetime.now(UTC)
_TENANT = "bench-hot-state"


def main(
    rows: Annotated[int, typer.Option(help="Rows of a write.")] = 500,
    writes: Annotated[int, typer.Option(help="Writes that are measured.")] = 100,
    sessions: Annotated[int, typer.Option(help="Sessions in Redis.")] = 20_000,
    reads: Annotated[int, typer.Option(help="Reads that are measured.")] = 20_000,
) -> None:
    """Print medians and 95th percentiles in milliseconds."""
    with new_database() as database:
        settings = settings_of(database)
        migrate.upgrade(settings)
        sink = PostgresSink(settings, "bench", AGENT_TURNS)
        sink.setup()
        batches = iter([_turns(rows, number) for number in range(writes + 3)])
        for _ in range(3):
            sink.write(next(batches))
        _tell(f"PostgreSQL, {rows} rows", [_timed(lambda: sink.write(next(batches))) for _ in range(writes)])
    _redis(sessions, reads)


def _turns(rows: int, number: int) -> pa.Table:
    """Half of the turns are those of the batch before, newer."""
    numbers = range(number * rows // 2, number * rows // 2 + rows)
    count = len(numbers)
    return pa.table(
        {
            "tenant_id": ["acme"] * count,
            "session_id": [f"s{n // 10}" for n in numbers],
            "turn_id": [f"t{n}" for n in numbers],
            "user_id": [f"u{n % 500}" for n in numbers],
            "channel": ["text"] * count,
            "model": ["river-large"] * count,
            "tokens_in": pa.array([n % 4000 for n in numbers], pa.int32()),
            "tokens_out": pa.array([n % 900 for n in numbers], pa.int32()),
            "latency_ms": [n % 3000 / 7 for n in numbers],
            "response_text": ["Of course. Which day suits you?"] * count,
            "ts_ms": [1_772_000_000_000 + n for n in numbers],
            "row_version": pa.array([number << 20 | n & 0xFFFFF for n in numbers], pa.int64()),
            "source_topic": ["text.agent.turn.completed"] * count,
            "source_partition": pa.array([0] * count, pa.int32()),
            "source_offset": list(numbers),
            "event_time": pa.array(
                [NOW + timedelta(milliseconds=n) for n in numbers], pa.timestamp("us", "UTC")
            ),
        }
    )


def _redis(sessions: int, reads: int) -> None:
    script = SET_IF_NEWER
    keys = [f"{_TENANT}:session:{n}:{STATE.kind}" for n in range(sessions)]
    value = (
        '{"last_turn_id":"t1","last_message":"' + "x" * 200 + '","seq":1,"channel":"text","status":"idle"}'
    )
    gone = int((time.time() + TTL_S) * 1000)
    with admin() as client:  # the writer may not look at the server's memory
        before = client.info("memory")["used_memory"]
        setter = client.script_load(script)
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.evalsha(setter, 1, key, "1".zfill(20), value, gone)
        pipeline.execute()
        size = (client.info("memory")["used_memory"] - before) / sessions
        found = [
            _timed(lambda key=key: client.hget(key, "v")) for key in (keys * (reads // sessions + 1))[:reads]
        ]
        client.unlink(*keys)
    _tell(f"Redis, a read among {sessions:,} sessions of {size:.0f} bytes each", found)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _tell(what: str, found: list[float]) -> None:
    cuts = quantiles(found, n=100)
    say(f"{what}: p50 {cuts[49]:.2f} ms, p95 {cuts[94]:.2f} ms, most {max(found):.2f} ms")


if __name__ == "__main__":
    typer.run(main)
