"""Redis' side of reconcile: every key of a kind holds the newest state of what came within a day."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from redis import Redis

from headwater.clock import utc_now
from headwater.settings import Settings
from jobs.chosen import ALL, Chosen
from jobs.sides import PAGE, Found, Side
from schemas.tables import Table
from sinks.redis import TTL_S, HotState, connected

# What goes away while all is compared may be there or not.
_MARGIN_S = 900
_NOTHING = bytes(16)
# What Redis says instead of seconds.
_GONE, _FOR_EVER = -2, -1


def redis_side(source: Table, state: HotState) -> Side:
    """A kind of hot state against the table that it is made of."""

    def expected(rows: DataFrame) -> DataFrame:
        """The rows that are to be there for a while yet, with `v`, their state as JSON."""
        since = utc_now() - timedelta(seconds=TTL_S - _MARGIN_S)
        return rows.where(F.col("refined_at") > F.lit(since)).withColumn("v", state.json())

    def rows(settings: Settings, chosen: Chosen = ALL) -> Iterator[Found]:
        with connected(settings) as client:
            names = ((key, _digest(key)) for key in client.scan_iter(f"*:session:*:{state.kind}", PAGE))
            wanted = ((key, digest) for key, digest in names if chosen.has(digest))
            while some := list(islice(wanted, PAGE)):
                yield from _read(client, some)

    name = f"redis.{state.kind}"
    return Side(
        name,
        source,
        ("tenant_id", "session_id"),
        (),
        F.col,
        ("v",),
        rows,
        expected,
        state.ties,
        version=state.version,
    )


def _read(client: Redis, keys: list[tuple[Any, bytes]]) -> Iterator[Found]:
    """Those that are still there."""
    asked = client.pipeline(transaction=False)
    for key, _ in keys:
        asked.hget(key, "v")
        asked.hget(key, "n")
        asked.ttl(key)
    answers = iter(asked.execute())
    for (key, digest), value, version, left in zip(keys, answers, answers, answers, strict=False):
        if left != _GONE:
            fading = _FOR_EVER < left <= _MARGIN_S
            yield Found(digest, _NOTHING, (_text(value),), _text(version) or "", key, fading)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _digest(key: bytes) -> bytes:
    """Of `tenant:session:<id>:<kind>`, in which no tenant has a colon."""
    tenant, rest = key.split(b":session:", 1)
    return sha256(tenant + b"\0" + rest.rsplit(b":", 1)[0]).digest()
