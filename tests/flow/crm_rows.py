"""Rows of silver.leads and silver.crm_* as a test writes them: what it does not say is made up, or null."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from headwater.identity import row_version
from headwater.tables import frame_of
from schemas.tables import Table
from tests.builders import arrow_schema

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def rows_of(spark: SparkSession, table: Table, rows: Sequence[dict[str, Any]]) -> DataFrame:
    """Rows in the order of their offsets; `event_time` and the columns that a test is about are its own."""
    made = [_filled(offset, said) for offset, said in enumerate(rows)]
    return frame_of(spark, pa.Table.from_pylist(made, arrow_schema(table.columns)))


def _filled(offset: int, said: dict[str, Any]) -> dict[str, Any]:
    at = said.get("event_time", NOON)
    micros = int(at.timestamp() * 1_000_000)
    version = int(row_version(np.array([micros], np.int64), np.array([offset], np.int64))[0])
    lineage = {
        "tenant_id": "acme",
        "event_id": f"e{offset}",
        "event_time": at,
        "event_date": at.date(),
        "row_version": version,
        "ingested_at": NOON + timedelta(days=30),
        "refined_at": NOON + timedelta(days=30, seconds=1),
        "source_topic": "t",
        "source_partition": 0,
        "source_offset": offset,
    }
    return lineage | said
