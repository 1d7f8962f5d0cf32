"""bronze → one row per record with its outcome: silver, dead or no_consent.

The records go through Python as Arrow batches, once: what is decided of each is plain Python (verdict.py).
Payload bytes go on only with dead rows, so that the shuffle before the dedupe carries fields, not documents.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from headwater.identity import fingerprint, record_hash, row_version
from schemas.contract import Contract
from schemas.tables import LETTER_PAYLOAD_BYTES, LINEAGE, SILVER
from transformations.refused import refused
from transformations.registry import NORMALISE
from transformations.validate import told
from transformations.verdict import Judge, judge

_HEADERS = "ARRAY<STRUCT<key: STRING, value: BINARY>>"
_DOMAINS_REMEMBERED = 16
_PLACE = ("topic", "partition", "offset", "ingested_at")


def classify(*contracts: Contract, geo_database: str | None = None) -> Callable[[DataFrame], DataFrame]:
    """Records of these contracts' topics → outcome rows.

    Columns: `outcome`, `stream`, `tenant_id`, `dedupe_hash` (never null), `stage`, `reasons`, `fingerprint`,
    `payload` and `headers` (of dead rows), `row_version`, `event_time`, `extras`, a struct per stream, named
    like its silver table, with the columns before the lineage (null in rows of another stream or outcome),
    and what bronze said of the record's place and time; `refined_at` goes through where it is given.
    """

    def apply(bronze: DataFrame) -> DataFrame:
        stamps = ["refined_at"] if "refined_at" in bronze.columns else []
        schema = _struct(_ddl(contracts, stamps))
        work = Classifier(contracts, geo_database, to_arrow_schema(schema))
        return bronze.select("value", "headers", *_PLACE, *stamps).mapInArrow(work, schema)

    return apply


def silver_rows(contract: Contract) -> Callable[[DataFrame], DataFrame]:
    """Outcome rows → the rows of this stream's silver table, in its order."""
    mine = (F.col("outcome") == "silver") & (F.col("stream") == contract.stream)
    lineage = ("tenant_id", "row_version", "event_time", "ingested_at", "refined_at")
    place = [F.col(part).alias(f"source_{part}") for part in ("topic", "partition", "offset")]
    columns = [F.col(f"{SILVER[contract.stream].name}.*"), *map(F.col, lineage), *place, F.col("extras")]

    def apply(outcomes: DataFrame) -> DataFrame:
        return outcomes.where(mine).select(*columns)

    return apply


def _ddl(contracts: Sequence[Contract], stamps: Sequence[str]) -> str:
    rows = [f"{SILVER[c.stream].name} STRUCT<{_own_columns(c)}>" for c in contracts]
    columns = [
        "outcome STRING, stream STRING, tenant_id STRING, dedupe_hash STRING",
        "stage STRING, reasons ARRAY<STRUCT<code: STRING, rule: STRING, field: STRING, message: STRING>>",
        f"fingerprint STRING, payload BINARY, headers {_HEADERS}",
        "row_version BIGINT, event_time TIMESTAMP, extras STRING",
        *rows,
        "topic STRING, partition INT, offset BIGINT, ingested_at TIMESTAMP",
        *[f"{name} TIMESTAMP" for name in stamps],
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

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return map(self._judged, batches)

    def _judged(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        values, topics = batch.column("value").to_pylist(), batch.column("topic").to_pylist()
        offsets, partitions = batch.column("offset").to_pylist(), batch.column("partition").to_pylist()
        arrived = batch.column("ingested_at").cast(pa.int64()).to_pylist()
        judges = _judges(self.contracts, self.geo_database)
        streams = [judges[topic][0] for topic in topics]
        headers = batch.column("headers")
        verdicts = [
            found(value, at) if (found := judges[topic][1]) else refused(headers[row].as_py())
            for row, (topic, value, at) in enumerate(zip(topics, values, arrived, strict=True))
        ]
        places = zip(topics, partitions, offsets, strict=True)
        kept = [v.outcome == "silver" for v in verdicts]
        dead = pa.array([v.outcome == "dead" for v in verdicts], pa.bool_())
        made: dict[str, Any] = {
            "outcome": [v.outcome for v in verdicts],
            "stream": streams,
            "tenant_id": [v.tenant_id for v in verdicts],
            "dedupe_hash": [v.identity or record_hash(*p) for v, p in zip(verdicts, places, strict=True)],
            "stage": [v.stage for v in verdicts],
            "reasons": [[told(r) for r in v.reasons] if v.reasons else None for v in verdicts],
            "fingerprint": [
                fingerprint([code for code, _ in v.reasons], value) if v.reasons else None
                for v, value in zip(verdicts, values, strict=True)
            ],
            "payload": pc.if_else(
                dead, pc.binary_slice(batch.column("value"), 0, LETTER_PAYLOAD_BYTES), None
            ),
            "headers": pc.if_else(dead, batch.column("headers"), None),
            "row_version": [
                row_version(v.event_time or 0, offset) if k else None
                for v, offset, k in zip(verdicts, offsets, kept, strict=True)
            ],
            "event_time": [v.event_time for v in verdicts],
            "extras": [v.row["extras"] if v.row else None for v in verdicts],
        }
        for contract in self.contracts:
            rows = [v.row if s == contract.stream else None for v, s in zip(verdicts, streams, strict=True)]
            made[SILVER[contract.stream].name] = rows
        return pa.RecordBatch.from_arrays(
            [self._column(f, made, batch) for f in self.schema], schema=self.schema
        )

    def _column(self, wanted: pa.Field, made: dict[str, Any], batch: pa.RecordBatch) -> pa.Array:
        found = made[wanted.name] if wanted.name in made else batch.column(wanted.name)
        return pa.array(found, wanted.type) if isinstance(found, list) else found.cast(wanted.type)


@lru_cache(maxsize=_DOMAINS_REMEMBERED)
def _judges(
    contracts: tuple[Contract, ...], geo_database: str | None
) -> dict[str | None, tuple[str, Judge | None]]:
    """Stream and judge by topic, compiled once in a Python worker, not once in a task.

    Records of the API's refusals need none: they were judged.
    """
    made: dict[str | None, tuple[str, Judge | None]] = {c.refused_topic: (c.stream, None) for c in contracts}
    for contract in contracts:
        made[contract.topic] = contract.stream, judge(contract, NORMALISE[contract.stream](geo_database))
    return made
