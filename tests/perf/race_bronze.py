"""Kafka → bronze: the query of `jobs ingest --once` against a plain consumer that writes by delta-rs.

Both read the same records of lead.ingest from a Kafka of the race's own, in batches of the same size, into a
table with the same columns and partitions, anew in each round. Ours has the ledger besides, and its marks.
"""

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaException, Message, Producer
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from headwater.kafka import confluent_config, producer_config
from headwater.session import build_session
from headwater.settings import Settings, load_settings
from headwater.tables import table_path
from jobs.ingest import Ingest
from jobs.queries import Context
from jobs.runtime import Runtime
from local.demo_watch import end_offset
from local.places import say
from local.traffic import Mix, Way, traffic
from schemas.tables import bronze
from tests.integration.broker import TOPIC
from tests.integration.lake import live_files
from tests.perf.api_load import kafka
from tests.perf.figures import OURS, Figure, interleaved, proven, rate

PEER = "confluent-kafka → deltalake"
TABLE = bronze("leads")
# Events are repeated beyond so many: far more than a compressor or a dictionary of Parquet remembers.
_DISTINCT = 50_000
_WAITING = 50_000
_AT_ONCE = 10_000
_LOOK_S = 1.0
_PATIENCE_S = 30.0
_HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
_MOMENT = pa.timestamp("us", tz="UTC")


def race(rows: int, rounds: int) -> list[Figure]:
    """Rows a second of both, from the start of the query or consumer to its last commit."""
    with tempfile.TemporaryDirectory(prefix="headwater-bronze-") as name, kafka(Path(name)) as bootstrap:
        base = load_settings("local")
        own = base.kafka.model_copy(update={"bootstrap": bootstrap})
        settings = base.model_copy(update={"kafka": own})
        fill(settings, rows)
        spark = build_session(settings, "headwater bench")
        runs = interleaved(
            rounds, {OURS: lambda: ours(spark, settings, rows), PEER: lambda: theirs(settings, rows)}
        )
        spark.stop()
    return [Figure("bronze", contender, "rows/s", found) for contender, found in runs.items()]


def fill(settings: Settings, rows: int) -> None:
    """So many sample records into the topic, sent as the API sends; each has a key of its own."""
    say(f"  bronze: producing {rows:,} records")
    producer = Producer(producer_config(settings, "headwater-bench", _PATIENCE_S))
    events = list(traffic(Way.KAFKA, min(rows, _DISTINCT), run="bench-", seed=1, mix=Mix(broken=0)))
    for number, event in enumerate(islice(cycle(events), rows)):
        while len(producer) > _WAITING:
            producer.poll(_LOOK_S)
        producer.produce(TOPIC, event.body, f"{event.tenant}|bench-{number}")
    producer.flush(_PATIENCE_S)
    proven(rows, end_offset(settings, TOPIC))


def ours(spark: SparkSession, settings: Settings, rows: int) -> float:
    """Rows a second of ingest, with a new lake and a new checkpoint."""
    with fresh_lake(settings) as at:
        context = Context(spark, at, "bench")

        def ingest() -> int:
            Runtime(context, once=True).run([Ingest(context, "leads")])
            return context.totals.rows_in

        return told(OURS, rows, rate(rows, ingest), at)


def theirs(settings: Settings, rows: int) -> float:
    """Rows a second of the peer, with a new table and a new consumer group."""
    with fresh_lake(settings) as at:
        return told(PEER, rows, rate(rows, lambda: consume(at, rows)), at)


@contextmanager
def fresh_lake(settings: Settings) -> Iterator[Settings]:
    """The settings with an empty lake, which is deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="headwater-bronze-lake-") as lake:
        yield settings.model_copy(update={"lake": lake})


def told(contender: str, rows: int, per_second: float, settings: Settings) -> float:
    """The rate, once the table is known to have every record, each once."""
    parts = [
        pq.ParquetFile(f"{table_path(settings, TABLE.full_name)}/{part['path']}").read(
            ["partition", "offset"]
        )
        for part in live_files(Path(table_path(settings, TABLE.full_name)))
    ]
    places = pa.concat_tables(parts)
    proven(rows, places.num_rows)
    proven(rows, places.group_by(["partition", "offset"]).aggregate([]).num_rows)
    say(f"  bronze: {contender} {per_second:,.0f} rows/s")
    return per_second


def consume(settings: Settings, rows: int) -> int:
    """The peer: batch after batch into the table; offsets are committed after each. The rows written."""
    config = {
        "group.id": f"bench-{uuid.uuid4()}",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    }
    consumer = Consumer(confluent_config(settings) | config)
    consumer.subscribe([TOPIC])
    path, written = table_path(settings, TABLE.full_name), 0
    while written < rows:
        batch = take(consumer, min(settings.streams.max_offsets_per_trigger, rows - written))
        write_deltalake(path, arrow(batch), mode="append", partition_by=list(TABLE.partitions))
        consumer.commit(asynchronous=False)
        written += len(batch)
    consumer.close()
    return written


def take(consumer: Consumer, count: int) -> list[Message]:
    """So many records. Raises TimeoutError when they do not come."""
    batch: list[Message] = []
    end = time.monotonic() + _PATIENCE_S
    while len(batch) < count:
        batch += consumer.consume(min(_AT_ONCE, count - len(batch)), timeout=_LOOK_S)
        if time.monotonic() > end:
            raise TimeoutError(f"{len(batch):,} of {count:,} records came")
    for message in batch:
        if fault := message.error():
            raise KafkaException(fault)
    return batch


def arrow(batch: list[Message]) -> pa.Table:
    """The columns of bronze."""
    now = datetime.now(UTC)
    count = len(batch)
    headers = [[{"key": k, "value": v} for k, v in message.headers() or ()] for message in batch]
    stamps = pa.array([message.timestamp()[1] for message in batch], pa.timestamp("ms", tz="UTC"))
    return pa.table(
        {
            "key": pa.array([message.key() for message in batch], pa.binary()),
            "value": pa.array([message.value() for message in batch], pa.binary()),
            "headers": pa.array(headers, _HEADERS),
            "topic": [message.topic() for message in batch],
            "partition": pa.array([message.partition() for message in batch], pa.int32()),
            "offset": pa.array([message.offset() for message in batch], pa.int64()),
            "kafka_timestamp": stamps.cast(_MOMENT),
            "ingested_at": pa.array([now] * count, _MOMENT),
            "ingest_date": [now.date()] * count,
        }
    )
