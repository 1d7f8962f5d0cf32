"""Rows of the log of the CRM's records, as deliver.crm.log writes them."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

MARCH = datetime(2026, 3, 1, 12, tzinfo=UTC)


def records(*given: dict[str, Any]) -> pa.Table:
    """Rows of the log, as deliver.crm.log has them on the driver; each another record of crm.leads."""
    same = {
        "event_id": "e", "event_type": "lead.created", "metadata": None, "source_topic": "crm.leads",
        "source_partition": 0, "tenant_id": "acme", "event_time": MARCH, "row_version": 1,
        "processing_status": "processed", "error_message": None, "retry_count": 0,
    }  # fmt: skip
    kinds = [
        (name, pa.timestamp("us", "UTC") if name == "event_time" else pa.string())
        for name in (*same, "source_offset")
    ]
    numbers = dict.fromkeys(("source_partition", "source_offset", "row_version", "retry_count"), pa.int64())
    schema = pa.schema([(name, numbers.get(name, kind)) for name, kind in kinds])
    return pa.Table.from_pylist([{**same, "source_offset": n, **row} for n, row in enumerate(given)], schema)
