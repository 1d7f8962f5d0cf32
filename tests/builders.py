"""Lead events as producers send them, bronze rows as Kafka left them, and what became of them."""

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession

from schemas.contract import contracts
from transformations.classify import classify

LEAD = contracts()["lead.ingest"]
ARRIVED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REFINED = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
GONE = object()  # as a change: the field is not there at all
BRONZE = """value BINARY, headers ARRAY<STRUCT<key: STRING, value: BINARY>>, topic STRING, partition INT,
  offset BIGINT, ingested_at TIMESTAMP"""
_EVENT: dict[str, Any] = {
    "event_id": "0b5e1c52-7d0b-4e0f-9d8a-6a1f3b7c2d41",
    "tenant_id": "acme",
    "idempotency_key": "key-1",
    "received_at": "2026-03-01T11:59:00.123Z",
    "source": "web",
    "payload": {"email": "ada@example.com", "consent": True},
    "context": {},
    "metadata": {},
}
Reason = tuple[str, str]
Headers = list[tuple[str, bytes]]


def event(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """A valid event with changes by JSON Pointer; parents that are missing are made."""
    made = deepcopy(_EVENT)
    for pointer, value in (changes or {}).items():
        *parents, name = pointer.strip("/").split("/")
        at = made
        for parent in parents:
            at = at.setdefault(parent, {})
        if value is GONE:
            at.pop(name, None)
        else:
            at[name] = value
    return made


def lead(changes: dict[str, Any] | None = None) -> bytes:
    """The event's JSON bytes."""
    return json.dumps(event(changes), ensure_ascii=False).encode()


def splice(old: str, new: str) -> bytes:
    """A valid event's text with one place exchanged, for what json.dumps would never write."""
    text = lead().decode()
    assert old in text
    return text.replace(old, new, 1).encode()


def bronze(
    spark: SparkSession,
    values: Sequence[bytes | None],
    headers: Mapping[int, Headers] | None = None,
    first_offset: int = 0,
    topic: str = "lead.ingest",
) -> DataFrame:
    """Records of one topic, partition 0, one after another, of one batch; headers by offset."""
    rows = [
        (value and bytearray(value), _kept(headers, offset), topic, 0, offset, ARRIVED)
        for offset, value in enumerate(values, first_offset)
    ]
    return spark.createDataFrame(rows, BRONZE)


def _kept(headers: Mapping[int, Headers] | None, offset: int) -> list[Row] | None:
    found = (headers or {}).get(offset)
    return found and [Row(key=key, value=bytearray(value)) for key, value in found]


def outcomes(spark: SparkSession, values: Sequence[bytes | None]) -> list[tuple[str, list[Reason]]]:
    """(outcome, [(reason code, field)]) of each record, in order."""
    rows = bronze(spark, values).transform(classify(LEAD)).select("offset", "outcome", "reasons").collect()
    return [
        (row["outcome"], [(r["code"], r["field"]) for r in row["reasons"] or []])
        for row in sorted(rows, key=lambda row: row["offset"])
    ]


_MOMENT = pa.timestamp("us", tz="UTC")
_ARROW = {
    "STRING": pa.string(),
    "BINARY": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "TIMESTAMP": _MOMENT,
    "DATE": pa.date32(),
    "DOUBLE": pa.float64(),
    "DECIMAL(20,6)": pa.decimal128(20, 6),
    "DECIMAL(15,2)": pa.decimal128(15, 2),
}


def arrow_schema(ddl: str) -> pa.Schema:
    """What Spark makes of a DDL string, without Spark."""
    return pa.schema(_fields(re.findall(r"\w+(?:\([\d,]+\))?|[<>]", ddl)))


def _fields(words: list[str]) -> list[pa.Field]:
    """The names and types up to the end, or to the bracket that closes them; the words are used up."""
    found = []
    while words and words[0] != ">":
        name = words.pop(0)
        found.append(pa.field(name, _kind(words)))
    return found


def _kind(words: list[str]) -> pa.DataType:
    word = words.pop(0)
    if word not in ("STRUCT", "ARRAY"):
        return _ARROW[word]
    words.pop(0)
    made = pa.struct(_fields(words)) if word == "STRUCT" else pa.list_(_kind(words))
    words.pop(0)
    return made


def arrow_bronze(values: Sequence[bytes | None], topic: str = LEAD.topic, first: int = 0) -> pa.RecordBatch:
    """The same records as `bronze` makes, as a Python worker gets them; every third has a header."""
    count = len(values)
    headers = ['[{"key":"k","value":"dg=="}]' if n % 3 == 0 else "[]" for n in range(count)]
    return pa.record_batch(
        {
            "value": pa.array(values, pa.binary()),
            "headers": pa.array(headers, pa.string()),
            "topic": pa.array([topic] * count, pa.string()),
            "partition": pa.array([0] * count, pa.int32()),
            "offset": pa.array(range(first, first + count), pa.int64()),
            "ingested_at": pa.array([ARRIVED] * count, _MOMENT),
            "refined_at": pa.array([REFINED] * count, _MOMENT),
        }
    )
