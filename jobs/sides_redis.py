"""Redis' side of reconcile: every key of a kind holds the newest state of what came within a day."""

from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from itertools import islice

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from headwater.clock import utc_now
from headwater.settings import Settings
from jobs.sides import KEY_BYTES, PAGE, Found, Side
from schemas.tables import Table
from sinks.redis import TTL_S, HotState, connected

# What goes away while all is compared is left out.
_MARGIN_S = 900
_NOTHING = bytes(16)


def redis_side(source: Table, state: HotState) -> Side:
    """A kind of hot state against the table that it is made of."""

    def expected(rows: DataFrame) -> DataFrame:
        """The rows that are to be there for a while yet, with `v`, their state as JSON."""
        since = utc_now() - timedelta(seconds=TTL_S - _MARGIN_S)
        return rows.where(F.col("refined_at") > F.lit(since)).withColumn("v", state.json())

    def rows(settings: Settings) -> Iterator[Found]:
        with connected(settings) as client:
            found = client.scan_iter(f"*:session:*:{state.kind}", PAGE)
            while keys := list(islice(found, PAGE)):
                asked = client.pipeline(transaction=False)
                for key in keys:
                    asked.hget(key, "v")
                    asked.ttl(key)
                answers = asked.execute()
                for key, value, left in zip(keys, answers[::2], answers[1::2], strict=True):
                    if left > _MARGIN_S:
                        yield _digest(key), _NOTHING, (value.decode(),)

    name = f"redis.{state.kind}"
    return Side(name, source, ("tenant_id", "session_id"), (), F.col, ("v",), rows, expected, state.ties)


def _digest(key: bytes) -> bytes:
    """Of `tenant:session:<id>:<kind>`, in which no tenant has a colon."""
    tenant, rest = key.split(b":session:", 1)
    return sha256(tenant + b"\0" + rest.rsplit(b":", 1)[0]).digest()[:KEY_BYTES]
