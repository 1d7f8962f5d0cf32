"""bronze → one row per record with its outcome: silver, dead, no_consent or filtered.

The records go through Python as Arrow batches, once: what is decided of each is plain Python (verdict.py).
Payload bytes go on only with dead rows, so that the shuffle before the dedupe carries fields, not documents.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from headwater.identity import fingerprint, record_hash, row_version
from headwater.offsets import PLACE_NUMBER
from headwater.worker import forget_archives, keep_for_good
from schemas.avro import SchemaOf, decoder
from schemas.contract import Contract
from schemas.tables import LETTER_PAYLOAD_BYTES, LINEAGE, PLACE, SILVER
from transformations.refused import Header, refused
from transformations.registry import NORMALISE
from transformations.validate import told
from transformations.verdict import Judge, Sound, Unsound, judge

_HEADERS = "ARRAY<STRUCT<key: STRING, value: BINARY>>"
_DOMAINS_REMEMBERED = 16
# Records are judged so many at a time: few enough for all that is made of them to stay in a core's cache.
_AT_ONCE = 1_000
_as_headers = msgspec.json.Decoder(list[Header])
_PLACE = (*PLACE, "ingested_at")
_LINEAGE = ("tenant_id", "row_version", "event_time", "ingested_at", "refined_at")
# What refine knows of a record before it is judged.
_THROUGH = {"refined_at": "TIMESTAMP", "accounted": "BOOLEAN", "replayed": "BOOLEAN", PLACE_NUMBER: "INT"}


def classify(
    *contracts: Contract, geo_database: str | None = None, schema_of: SchemaOf | None = None
) -> Callable[[DataFrame], DataFrame]:
    """Records of these contracts' topics → outcome rows. `schema_of` is asked, in the workers, for the
    schemas of records in Avro.

    Columns: `outcome`, `stream`, `tenant_id`, `dedupe_hash` (never null), `stage`, `reasons`, `fingerprint`,
    `payload` and `headers` (of dead rows), `size` (of the record in bytes), `row_version`, `event_time`,
    `warned` (what was stored null though something was said), `extras`, a struct per stream, named like its
    silver table, with the columns before the lineage (null in rows of another stream or outcome), and what
    bronze said of the record's place and time; `refined_at`, `accounted`, `replayed` and the number of its
    place go through where they are given.
    """

    def apply(bronze: DataFrame) -> DataFrame:
        through = [name for name in _THROUGH if name in bronze.columns]
        schema = _struct(outcome_columns(contracts, through))
        work = Classifier(contracts, geo_database, to_arrow_schema(schema), schema_of)
        # As text: Spark asks for the size of every row that goes to Python, and that of a list takes it long.
        headers = F.to_json("headers").alias("headers")
        return bronze.select("value", headers, *_PLACE, *through).mapInArrow(work, schema)

    return apply


def classified(
    contracts: Sequence[Contract],
    records: pa.RecordBatch,
    geo_database: str | None = None,
    schema_of: SchemaOf | None = None,
) -> pa.Table:
    """The same of records on the driver: `value`, `headers` as JSON, their place, `ingested_at` and
    `refined_at`."""
    schema = to_arrow_schema(_struct(outcome_columns(contracts, ["refined_at"])))
    work = Classifier(tuple(contracts), geo_database, schema, schema_of)
    return pa.Table.from_batches(work([records]), schema)


def silver_rows(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Outcome rows → the rows of this stream's silver table, in its order."""
    mine = (F.col("outcome") == "silver") & (F.col("stream") == contract.stream)
    columns = [made.alias(name) for name, made in silver_columns(contract).items()]

    def apply(outcomes: DataFrame) -> DataFrame:
        return outcomes.where(mine).select(*columns)

    return apply


def silver_columns(contract: Contract) -> dict[str, Column]:
    """Where outcome rows have each column of the stream's silver table, in its order."""
    table = SILVER[contract.stream]
    elsewhere = {name: F.col(name) for name in (*_LINEAGE, "extras")}
    elsewhere |= {f"source_{part}": F.col(part) for part in PLACE}
    return {name: elsewhere.get(name, F.col(f"{table.name}.{name}")) for name in table.names}


def silver_table(contract: Contract, outcomes: pa.Table) -> pa.Table:
    """The same of outcome rows that are on the driver: what `silver_rows` gives, without Spark."""
    mine = pc.and_(pc.equal(outcomes["outcome"], "silver"), pc.equal(outcomes["stream"], contract.stream))
    rows = outcomes.filter(pc.fill_null(mine, False))
    own = rows[SILVER[contract.stream].name].combine_chunks()
    columns = dict(zip([part.name for part in own.type], own.flatten(), strict=True))
    columns |= {name: rows[name] for name in _LINEAGE}
    columns |= {f"source_{part}": rows[part] for part in PLACE}
    return pa.table({**columns, "extras": rows["extras"]})


def outcome_columns(contracts: Sequence[Contract], through: Sequence[str]) -> str:
    """The columns of outcome rows as a Spark DDL string; `through` names what goes through."""
    rows = [f"{SILVER[c.stream].name} STRUCT<{_own_columns(c)}>" for c in contracts]
    columns = [
        "outcome STRING, stream STRING, tenant_id STRING, dedupe_hash STRING",
        "stage STRING, reasons ARRAY<STRUCT<code: STRING, rule: STRING, field: STRING, message: STRING>>",
        f"fingerprint STRING, payload BINARY, headers {_HEADERS}, size INT",
        "row_version BIGINT, event_time TIMESTAMP, warned ARRAY<STRING>, extras STRING",
        *rows,
        "topic STRING, partition INT, offset BIGINT, ingested_at TIMESTAMP",
        *[f"{name} {_THROUGH[name]}" for name in through],
    ]
    return ", ".join(columns)


def _struct(ddl: str) -> StructType:
    made = StructType.fromDDL(ddl)
    if not isinstance(made, StructType):
        raise TypeError(ddl)
    return made


def _own_columns(contract: Contract) -> str:
    return SILVER[contract.stream].columns.removesuffix(LINEAGE).strip().rstrip(",")


@dataclass(frozen=True)
class Classifier:
    """What a Python worker does with its Arrow batches. Made on the driver, it travels with the task."""

    contracts: tuple[Contract, ...]
    geo_database: str | None
    schema: pa.Schema
    schema_of: SchemaOf | None = None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        forget_archives()
        for batch in batches:
            topics = batch.column("topic")
            names = topics.unique().to_pylist()
            for topic in names:
                mine = batch.filter(pc.equal(topics, topic)) if len(names) > 1 else batch
                yield from self._judged(topic, mine)

    def _judged(self, topic: str, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Silver rows in the order of their records, then the others."""
        stream, decide = judges(self.contracts, self.geo_database, self.schema_of)[topic]
        if decide is None:
            yield self._others(batch, stream, list(map(refused, _headers(batch))))
            return
        silver: list[pa.RecordBatch] = []
        others: dict[int, Unsound] = {}
        for first in range(0, batch.num_rows, _AT_ONCE):
            part = batch.slice(first, _AT_ONCE)
            arrived = part.column("ingested_at").cast(pa.int64()).to_pylist()
            sound, unsound = decide(part.column("value").to_pylist(), arrived)
            sized = part.append_column("size", _sizes(part))
            place = sized.drop_columns(["value", "headers"]).take(pa.array(sound.rows, pa.int64()))
            silver.append(self._silver(place, stream, sound))
            others |= {first + row: found for row, found in unsound.items()}
        yield from pa.Table.from_batches(silver, self.schema).combine_chunks().to_batches()
        if others:
            yield self._others(batch.take(pa.array(others)), stream, list(others.values()))

    def _silver(self, batch: pa.RecordBatch, stream: str, sound: Sound) -> pa.RecordBatch:
        table = SILVER[stream].name
        kind = self.schema.field(table).type
        # A column that no field fills any more stays, without values.
        none: list[Any] = [None] * batch.num_rows
        own = [_own_column(sound.columns.get(part.name, none), part.type) for part in kind]
        made = {
            "outcome": pa.repeat("silver", batch.num_rows),
            "tenant_id": sound.tenants,
            "dedupe_hash": sound.identities,
            "row_version": row_version(np.array(sound.times, np.int64), batch.column("offset").to_numpy()),
            "event_time": sound.times,
            "warned": sound.columns["warned"],
            "extras": sound.columns["extras"],
            table: pa.StructArray.from_arrays(own, fields=list(kind)),
        }
        return self._block(batch, stream, made)

    def _others(self, batch: pa.RecordBatch, stream: str, found: list[Unsound]) -> pa.RecordBatch:
        dead = pa.array([one.outcome == "dead" for one in found])
        values = batch.column("value")
        places = zip(*[batch.column(part).to_pylist() for part in PLACE], strict=True)
        made = {
            "outcome": [one.outcome for one in found],
            "tenant_id": [one.tenant_id for one in found],
            "dedupe_hash": [record_hash(*place) for place in places],
            "stage": [one.stage for one in found],
            "reasons": [list(map(told, one.reasons)) if one.reasons else None for one in found],
            "fingerprint": [
                fingerprint([code for code, _ in one.reasons], value) if one.reasons else None
                for one, value in zip(found, values.to_pylist(), strict=True)
            ],
            "size": _sizes(batch),
            "payload": pc.if_else(dead, pc.binary_slice(values, 0, LETTER_PAYLOAD_BYTES), None),
            "headers": [
                kept if one.outcome == "dead" else None
                for one, kept in zip(found, _headers(batch), strict=True)
            ],
            "event_time": [one.event_time for one in found],
        }
        return self._block(batch, stream, made)

    def _block(self, batch: pa.RecordBatch, stream: str, made: dict[str, Any]) -> pa.RecordBatch:
        """Rows of one stream: what was made, the record's place and time, null for all else."""
        count = batch.num_rows
        kept = {name: batch.column(name) for name in batch.schema.names if name != "headers"}
        known = {**kept, "stream": pa.repeat(stream, count), **made}
        arrays = [
            _array(known[field.name], field.type) if field.name in known else pa.nulls(count, field.type)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _sizes(batch: pa.RecordBatch) -> pa.Array:
    return pc.fill_null(pc.binary_length(batch.column("value")), 0)


def _headers(batch: pa.RecordBatch) -> list[list[Header] | None]:
    """Each record's headers, None where it has none."""
    return [text and _as_headers.decode(text) for text in batch.column("headers").to_pylist()]


def _own_column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A column of silver. Numbers come as decimals, also where the table has doubles."""
    if pa.types.is_floating(kind):
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, kind)


def _array(found: Any, kind: pa.DataType) -> pa.Array:
    made = found if isinstance(found, pa.Array) else pa.array(found, kind)
    return made if made.type == kind else made.cast(kind)


@lru_cache(maxsize=_DOMAINS_REMEMBERED)
def judges(
    contracts: tuple[Contract, ...], geo_database: str | None, schema_of: SchemaOf | None = None
) -> dict[str | None, tuple[str, Judge | None]]:
    """Stream and judge by topic, compiled once in a Python worker, not once in a task.

    Records of the API's refusals need none: they were judged.
    """
    made: dict[str | None, tuple[str, Judge | None]] = {c.refused_topic: (c.stream, None) for c in contracts}
    for contract in contracts:
        decode, normalise = decoder(contract, schema_of), NORMALISE[contract.stream](geo_database)
        made[contract.topic] = contract.stream, judge(contract, normalise, decode)
    keep_for_good()
    return made
