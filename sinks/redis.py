"""Hot state of conversations → Redis: a hash for each session and kind, set if newer, gone after a day.

Field `v` is the JSON that readers take, `n` the version that was last set, as twenty digits, and behind it
what decides between rows of one version: the script compares texts, for Lua's numbers are doubles and would
round. A row that came before a day ago is not set any more, so memory is bounded by what arrives in a day,
also when all is rebuilt.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from time import monotonic
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from redis import Redis
from redis.exceptions import RedisError

from headwater.errors import SetupError, TransientError
from headwater.log import logger
from headwater.redis import refused, writer_options
from headwater.settings import Settings
from headwater.tables import frame_of
from headwater.worker import forget_archives
from sinks import redis_mend
from sinks.base import Seen, Written

TTL_S = 86_400
LONGEST_MESSAGE = 4_096  # characters that are kept of what was said last
_AT_ONCE = 500  # keys in one round trip
_TASKS = 2
_TIMEOUT_S = 10.0
_DIGITS = 20
_ISO = "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"
_COUNTS = "fresh BIGINT, replaced BIGINT, kept BIGINT, fault STRING"
SET_IF_NEWER = """
local known = redis.call('HGET', KEYS[1], 'n')
if known and known >= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'n', ARGV[1], 'v', ARGV[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[3])  -- a time that is past deletes
return known and 2 or 1
"""
_REMOVE = """
local known = redis.call('HGET', KEYS[1], 'n')
if known and known <= ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
# A key, and the script's arguments.
_Row = tuple[Any, ...]
_log = logger(__name__)


@dataclass(frozen=True)
class HotState:
    """`kind` ends the key; `value` makes the JSON's fields of a row's columns. Of rows with one version, made
    of a millisecond and an offset, that with the most in `ties` is the newest; null is 0."""

    kind: str
    value: Callable[[], list[Column]]
    ties: tuple[str, ...] = ("source_partition",)

    def json(self) -> Column:
        """A row's state as text, nulls and all."""
        return F.to_json(F.struct(*self.value()), {"ignoreNullFields": "false"})

    def version(self) -> Column:
        """A row's version as text that sorts as versions do."""
        digits = [
            F.lpad(F.greatest(F.col(name), F.lit(0)).cast("string"), _DIGITS, "0")
            for name in ("row_version", *self.ties)
        ]
        return F.concat_ws(".", *digits)


def _iso(name: str) -> Column:
    return F.date_format(name, _ISO)


STATE = HotState(
    "state",
    lambda: [
        F.col("last_turn_id"),
        F.left("last_message", F.lit(LONGEST_MESSAGE)).alias("last_message"),
        F.col("seq"),
        _iso("event_time").alias("updated_at"),
        F.col("channel"),
        F.col("status"),
    ],
    ("seq", "source_partition"),
)
METRICS = HotState(
    "metrics",
    lambda: [
        F.col("turns").alias("total_turns"),
        F.col("avg_latency_ms").alias("avg_response_time"),
        _iso("ended_at").alias("last_activity"),
    ],
)


@dataclass(frozen=True)
class Target:
    """Where a task sends its rows, as whom, and the script that it runs; the password is never shown."""

    url: str
    options: dict[str, Any] = field(hash=False)
    script: str

    def __repr__(self) -> str:
        return "Target(…)"

    def client(self) -> Redis:
        """A client whose calls end in time, or as a fault."""
        waits = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
        return Redis.from_url(self.url, **self.options, **waits)


def _target(settings: Settings, script: str) -> Target:
    return Target(settings.redis.url, writer_options(settings.redis), script)


@contextmanager
def connected(settings: Settings) -> Iterator[Redis]:
    """A client, whose faults are told as ours."""
    try:
        with _target(settings, "").client() as client:
            yield client
    except RedisError as fault:
        raise _fault(_told(fault)) from None


class RedisSink:
    """One kind of hot state, keyed by tenant and session."""

    name = "redis"

    def __init__(self, settings: Settings, query: str, state: HotState) -> None:
        self._set, self._remove = _target(settings, SET_IF_NEWER), _target(settings, _REMOVE)
        self._settings = settings
        self._state = state
        self._query = query

    def setup(self) -> None:
        """Check that Redis answers. Raises SetupError for a refused login, TransientError without Redis."""
        with connected(self._settings) as client:
            client.ping()

    def write(self, batch: DataFrame | pa.Table) -> Written:
        """Set what is newer than what is there and came within a day. Rows that are on the driver are sent
        from there."""
        began = monotonic()
        if isinstance(batch, DataFrame):
            done = self._run(self._set, batch.select(*self._columns))
        else:
            # Spark works out columns of rows that it has at hand without a job.
            rows = frame_of(SparkSession.active(), batch).select(*self._columns).collect()
            done = _total([_sent(self._set, [rows])])
        took = round(monotonic() - began, 3)
        kind, written = self._state.kind, Written(done["fresh"], done["replaced"], done["kept"])
        _log.info("written", sink=self.name, query=self._query, kind=kind, rows=written.rows, seconds=took)
        return written

    def remove(self, batch: DataFrame) -> int:
        """Take away the state of these sessions, unless it is newer."""
        return self._run(self._remove, batch.select(*self._identity()))["fresh"]

    def mend(self, batch: DataFrame, wrong: Sequence[Seen]) -> Written:
        """As `write`; states that are as `wrong` says give way."""
        with connected(self._settings) as client:
            redis_mend.run(client, redis_mend.GIVE_WAY, wrong)
        return self.write(batch)

    def withdraw(self, extra: Sequence[Seen]) -> int:
        """Take away states that are still as they were found; how many went."""
        with connected(self._settings) as client:
            gone = redis_mend.run(client, redis_mend.WITHDRAW, extra)
        _log.info("withdrawn", sink=self.name, query=self._query, kind=self._state.kind, rows=gone)
        return gone

    def reset(self) -> None:
        """Take away every key of this kind, a few at a time."""
        with connected(self._settings) as client:
            found = client.scan_iter(f"*:session:*:{self._state.kind}", _AT_ONCE)
            while keys := list(islice(found, _AT_ONCE)):
                client.unlink(*keys)

    @cached_property
    def _columns(self) -> list[Column]:
        expires = F.unix_millis("refined_at") + F.lit(TTL_S * 1000)
        return [*self._identity(), self._state.json().alias("v"), expires.alias("expires")]

    def _identity(self) -> list[Column]:
        key = F.concat("tenant_id", F.lit(":session:"), "session_id", F.lit(f":{self._state.kind}"))
        return [key.alias("key"), self._state.version().alias("n")]

    def _run(self, target: Target, rows: DataFrame) -> dict[str, int]:
        """What the script answered for all rows: new, replaced, kept as it was."""
        found = rows.coalesce(_TASKS).mapInArrow(_task(target), _COUNTS).collect()
        return _total([row.asDict() for row in found])


def _total(found: Sequence[dict[str, Any]]) -> dict[str, int]:
    """What was answered to all parts. Raises the fault of one as ours."""
    faults = [part["fault"] for part in found if part["fault"]]
    if faults:
        raise _fault(faults[0])
    return {name: sum(part[name] for part in found) for name in ("fresh", "replaced", "kept")}


def _task(target: Target) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        forget_archives()
        rows = ([*zip(*[column.to_pylist() for column in part.columns], strict=True)] for part in batches)
        yield pa.RecordBatch.from_pylist([_sent(target, rows)])

    return run


def _sent(target: Target, parts: Iterable[Sequence[_Row]]) -> dict[str, Any]:
    """Runs in a Python worker, too. A fault is returned by its name: Spark would log its text."""
    answers = [0, 0, 0]
    try:
        with target.client() as client:
            script = client.script_load(target.script)
            for rows in parts:
                for first in range(0, len(rows), _AT_ONCE):
                    for answer in _round_trip(client, script, rows[first : first + _AT_ONCE]):
                        answers[answer] += 1
    except RedisError as fault:
        return {"fresh": 0, "replaced": 0, "kept": 0, "fault": _told(fault)}
    kept, fresh, replaced = answers
    return {"fresh": fresh, "replaced": replaced, "kept": kept, "fault": None}


def _round_trip(client: Redis, script: str, rows: Sequence[_Row]) -> list[int]:
    pipeline = client.pipeline(transaction=False)
    for key, *values in rows:
        pipeline.evalsha(script, 1, key, *values)
    return pipeline.execute()


def _told(fault: RedisError) -> str:
    return f"{'refused' if refused(fault) else 'away'} {type(fault).__name__}"


def _fault(told: str) -> SetupError | TransientError:
    kind, name = told.split()
    if kind == "refused":
        return SetupError(
            f"Redis refuses us, or we its certificate ({name}): check redis.url, redis.username, "
            "redis.password and redis.ca_file"
        )
    return TransientError(f"Redis does not take the hot state ({name})")
