"""What is in a topic; and what deliver has written to Kafka against its tables, repeats may be."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from headwater.settings import Kafka
from tests.integration.broker import Broker
from tests.integration.jobs_harness import World

_ANSWERS_WITHIN_S = 10.0
_BYTES = ("payload",)


def records(broker: Broker | Kafka, topic: str) -> list[tuple[str, dict[str, Any]]]:
    """Every record of a topic: key, and value as JSON."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "test"})
    try:
        parts = consumer.list_topics(topic, timeout=_ANSWERS_WITHIN_S).topics[topic].partitions
        spots = [TopicPartition(topic, number, 0) for number in parts]
        wanted = sum(consumer.get_watermark_offsets(spot, timeout=_ANSWERS_WITHIN_S)[1] for spot in spots)
        consumer.assign(spots)
        found = consumer.consume(wanted, timeout=_ANSWERS_WITHIN_S) if wanted else []
    finally:
        consumer.close()
    assert len(found) == wanted
    return [((m.key() or b"").decode(), json.loads(m.value() or b"null")) for m in found]


def check_topics(world: World) -> None:
    """lead.normalized has silver's rows, lead.dlq the dead letters, each with all its columns."""
    _same(world, "lead.normalized", "silver.leads", ("tenant_id", "idempotency_key"), "|".join)
    _same(world, "lead.dlq", "ops.dead_letters", ("dead_letter_id",), None)


def _same(world: World, topic: str, table: str, key: tuple[str, ...], named: Any) -> None:
    rows = {tuple(row[name] for name in key): _plain(row) for row in world.table(table)}
    told = {}
    for name, value in records(world.broker, topic):
        value.pop("payload_cut", None)
        told[tuple(value[part] for part in key)] = value
        assert name == (
            named([value[part] for part in key]) if named else f"{value['tenant_id'] or ''}|{value[key[0]]}"
        )
    assert told == rows


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in row.items()}


def _value(name: str, value: Any) -> Any:
    if name in ("metadata", "extras") and value is not None:
        return json.loads(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(item) for item in value] if value and isinstance(value[0], dict) else value
    return value
