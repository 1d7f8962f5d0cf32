"""Sample events → rows of bronze, for what measures, warms up or tries refine without Kafka."""

from datetime import UTC, datetime

import pyarrow as pa

from local.traffic import Event

_HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def bronze_rows(events: list[Event], partition: int, first: int) -> pa.Table:
    """Records of one partition of each topic, from offset `first` on, as ingest would have written them."""
    now, count = datetime.now(UTC), len(events)
    moment = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "key": [f"{e.tenant}|{e.key}".encode() for e in events],
            "value": [e.body for e in events],
            "headers": pa.array([[]] * count, _HEADERS),
            "topic": [e.topic for e in events],
            "partition": pa.array([partition] * count, pa.int32()),
            "offset": pa.array(range(first, first + count), pa.int64()),
            "kafka_timestamp": pa.array([now] * count, moment),
            "ingested_at": pa.array([now] * count, moment),
            "ingest_date": [now.date()] * count,
        }
    )
