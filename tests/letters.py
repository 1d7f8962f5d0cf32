"""A small ops.dead_letters in a folder, made without Spark."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from headwater import delta_log
from headwater.settings import Settings, load_settings
from headwater.tables import table_path
from jobs import runs
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS, JOB_RUNS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CANARY = "canary-ada@example.com"
PAYLOAD = f'{{"source":"web","payload":{{"email":"{CANARY}","consent":true}}}}'.encode()
_STATISTICS = {"delta.dataSkippingStatsColumns": ",".join(DEAD_LETTERS.statistics)}


def identity(number: int) -> str:
    """The id of the letter with this number."""
    return hashlib.sha256(f"validate/lead.ingest/0/{number}".encode()).hexdigest()


def letter(number: int, *codes: str, **changes: Any) -> dict[str, Any]:
    """A row; letters with a greater number failed so many seconds later."""
    reasons = [
        {"code": code, "rule": None, "field": "/payload/email", "message": "is wrong"}
        for code in codes or ("rule:pattern",)
    ]
    row = {
        "dead_letter_id": identity(number), "fingerprint": "f" * 64, "stream": "lead.ingest",
        "stage": "validate", "tenant_id": "acme", "reasons": reasons, "payload": PAYLOAD,
        "headers": [{"key": "trace", "value": CANARY.encode()}], "source_topic": "lead.ingest",
        "source_partition": 0, "source_offset": number, "failed_at": NOON + timedelta(seconds=number),
        "code_version": "1", "contract_version": "1.0.0", "status": "new",
    }  # fmt: skip
    return row | changes


def lake_settings(lake: Path) -> Settings:
    return load_settings("local").model_copy(update={"lake": str(lake)})


def make_lake(settings: Settings, *letters: dict[str, Any]) -> None:
    """Both tables, and the letters in one commit."""
    delta_log.create(table_path(settings, DEAD_LETTERS.full_name), LETTERS, [], _STATISTICS)
    delta_log.create(table_path(settings, JOB_RUNS.full_name), runs.SCHEMA, [], {})
    append(settings, *letters)


def append(settings: Settings, *letters: dict[str, Any]) -> None:
    """The letters in one commit, hence one file."""
    rows = pa.Table.from_pylist(list(letters), schema=LETTERS)
    delta_log.append_rows(rows, table_path(settings, DEAD_LETTERS.full_name))


def rows(settings: Settings) -> list[dict[str, Any]]:
    """All letters as they are, in the order of their numbers."""
    found = delta_log.read(table_path(settings, DEAD_LETTERS.full_name), LETTERS.names, None)
    letters: list[dict[str, Any]] = found.sort_by("source_offset").to_pylist()
    return letters


def statuses(settings: Settings) -> dict[int, str]:
    """Each letter's status by its number."""
    return {row["source_offset"]: row["status"] for row in rows(settings)}
