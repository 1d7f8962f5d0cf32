"""Staged rows of a small file, on the driver → the same tables as transformations/uploads.py makes, without
Spark."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.identity import fingerprint, row_version
from schemas.letters import LETTERS
from transformations.uploads import OFFSET_MASK, STAGE, STREAM, Origin

_TIME = pa.timestamp("us", tz="UTC")
SILVER = pa.schema(
    [
        *[(name, pa.string()) for name in ("job_id", "dataset", "content_hash", "data", "tenant_id")],
        ("row_version", pa.int64()),
        *[(name, _TIME) for name in ("event_time", "ingested_at", "refined_at")],
        ("source_topic", pa.string()),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
        ("extras", pa.string()),
    ]
)


def valid_rows(staged: pa.Table) -> pa.Table:
    """Those with a hash."""
    return staged.filter(pc.field("content_hash").is_valid())


def invalid_rows(staged: pa.Table) -> list[dict[str, Any]]:
    """Those with reasons, in the order of the file."""
    found = staged.filter(pc.field("reasons").is_valid())
    return list(found.sort_by([("member", "ascending"), ("line", "ascending")]).to_pylist())


def silver_table(staged: pa.Table, origin: Origin, now: datetime) -> pa.Table:
    """Valid rows → silver.uploaded_rows."""
    rows = valid_rows(staged)
    first = row_version(round(origin.arrived.timestamp() * 1_000_000), 0)
    made: dict[str, Any] = {
        "job_id": origin.job_id,
        "dataset": origin.dataset,
        "content_hash": rows["content_hash"],
        "data": rows["data"],
        "tenant_id": origin.tenant_id,
        "row_version": pc.bit_wise_or(pc.bit_wise_and(rows["line"], OFFSET_MASK), first),
        "event_time": origin.arrived,
        "ingested_at": origin.arrived,
        "refined_at": now,
        "source_topic": origin.topic,
        "source_partition": rows["member"],
        "source_offset": rows["line"],
    }
    return pa.table([_column(made.get(field.name), field.type, len(rows)) for field in SILVER], schema=SILVER)


def letters_table(invalid: Sequence[dict[str, Any]], origin: Origin, now: datetime) -> pa.Table:
    """Invalid rows → dead letters."""
    return pa.Table.from_pylist([_letter(row, origin, now) for row in invalid], schema=LETTERS)


def _letter(row: dict[str, Any], origin: Origin, now: datetime) -> dict[str, Any]:
    place = f"{STAGE}/{origin.topic}/{row['member']}/{row['line']}"
    return {
        "dead_letter_id": hashlib.sha256(place.encode()).hexdigest(),
        "fingerprint": fingerprint([reason["code"] for reason in row["reasons"]], row["raw"]),
        "stream": STREAM,
        "stage": STAGE,
        "tenant_id": origin.tenant_id,
        "reasons": row["reasons"],
        "payload": row["raw"],
        "source_topic": origin.topic,
        "source_partition": row["member"],
        "source_offset": row["line"],
        "failed_at": now,
        "code_version": origin.code_version,
        "contract_version": origin.dataset_version,
        "status": "new",
    }


def _column(found: Any, kind: pa.DataType, rows: int) -> Any:
    """A column as it is, or one value in every row."""
    return found if isinstance(found, pa.ChunkedArray) else pa.repeat(pa.scalar(found, kind), rows)
