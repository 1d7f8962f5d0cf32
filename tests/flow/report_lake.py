"""A lake for reports: leads, some of them bad, and a ledger of many days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from headwater.settings import Settings
from headwater.tables import append_rows, ensure_table, table_path
from jobs.queries import Context
from schemas.tables import LEADS, LEDGER
from tests.builders import LEAD, arrow_bronze, arrow_schema, lead
from tests.conftest import settings_at
from transformations.classify import Classifier, outcome_columns, silver_table

CANARY = "canary.of.the.report@example.com"
_WORK = Classifier((LEAD,), None, arrow_schema(outcome_columns([LEAD], ["refined_at"])))


def report_settings(folder: Path, **more: Any) -> Settings:
    """A lake and reports of the test's own."""
    base = settings_at(folder / "lake")
    quality = base.quality.model_copy(update={"folder": folder / "quality", **more})
    return base.model_copy(update={"quality": quality})


@dataclass
class ReportLake:
    spark: SparkSession
    settings: Settings
    arrived: int = 0

    def context(self, run_id: str) -> Context:
        return Context(self.spark, self.settings, run_id)

    def leads(self, count: int, **columns: Any) -> None:
        """So many leads in silver; a column that is named has this value in all of them."""
        names = [f"k{number}" for number in range(self.arrived, self.arrived + count)]
        events = [lead({"/idempotency_key": name, "/payload/email": f"{name}@example.com"}) for name in names]
        outcomes = pa.Table.from_batches(
            _WORK([arrow_bronze(events, LEAD.topic, self.arrived)]), _WORK.schema
        )
        rows = silver_table(LEAD, outcomes)
        assert rows.num_rows == count
        self.arrived += count
        for name, value in columns.items():
            at = rows.schema.get_field_index(name)
            kind = rows.schema.field(name).type
            rows = rows.set_column(at, name, pa.array([value] * count, kind))
        ensure_table(self.spark, self.settings, LEADS)
        append_rows(self.spark, rows, self.settings, LEADS.full_name)

    def ledger(self, entries: Sequence[tuple[datetime, str | None, int, int, int]]) -> None:
        """Entries of refine: when, tenant, rows, duplicates, dead letters."""
        ensure_table(self.spark, self.settings, LEDGER)
        schema = arrow_schema(LEDGER.columns.replace("MAP<STRING, ARRAY<BIGINT>>", "STRING"))
        rows = [
            {
                "query": "refine.leads", "query_id": "q", "batch_id": number, "stream": LEAD.stream,
                "tenant_id": tenant, "in_rows": rows, "silver": rows - duplicate - dead,
                "duplicate": duplicate, "dead": dead, "written_at": at,
            }
            for number, (at, tenant, rows, duplicate, dead) in enumerate(entries)
        ]  # fmt: skip
        table = pa.Table.from_pylist(rows, schema=schema)
        nothing = pa.nulls(len(rows), pa.map_(pa.string(), pa.list_(pa.int64())))
        table = table.set_column(table.schema.get_field_index("offsets"), "offsets", nothing)
        append_rows(self.spark, table, self.settings, LEDGER.full_name)

    def rows(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (
            DeltaTable(table_path(self.settings, name)).to_pyarrow_table().to_pylist()
        )
        return found


def steady(now: datetime, days: int, rows: int = 100) -> list[tuple[datetime, str | None, int, int, int]]:
    """The same every day, at noon, up to now."""
    past = [now - timedelta(days=back) for back in range(1, days + 1)]
    return [(moment, "acme", rows, 0, 1) for moment in (*past, now - timedelta(minutes=5))]
