"""An API with operators' keys, a small lake of its own, and what jobs write for operators to see."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from headwater.postgres import Connection
from headwater.settings import Settings
from headwater.tables import table_path
from tests.integration.api_server import key_entry
from tests.integration.uploads.harness import UploadApi
from tests.letters import lake_settings, letter, make_lake

OPERATOR = ("jobs:read", "dlq:read", "dlq:replay", "quality:read")
COUNTS = ("in_rows", "silver", "duplicate", "dead", "no_consent", "erased", "filtered")
LEDGER = pa.schema(
    [
        *[(name, pa.string()) for name in ("query", "query_id")],
        ("batch_id", pa.int64()),
        *[(name, pa.string()) for name in ("stream", "tenant_id")],
        *[(name, pa.int64()) for name in COUNTS],
        ("offsets", pa.map_(pa.string(), pa.list_(pa.int64()))),
        ("code_version", pa.string()),
        ("written_at", pa.timestamp("us", tz="UTC")),
    ]
)
QUALITY = pa.schema(
    [
        *[(name, pa.string()) for name in ("run_id", "table", "suite")],
        ("passed", pa.bool_()),
        ("expectations", pa.int64()),
        ("failed", pa.int64()),
        ("pass_share", pa.float64()),
        ("started_at", pa.timestamp("us", tz="UTC")),
    ]
)
_BEAT = """
INSERT INTO analytics.query_states (query, domain, state, lag, last_batch_at, batch_ms_p95, updated_at)
VALUES (%s, %s, %s, %s, now(), %s, now() - %s::interval)
ON CONFLICT (query) DO UPDATE SET state = excluded.state, lag = excluded.lag, updated_at = excluded.updated_at
"""


class OpsApi(UploadApi):
    """Keys: `key` may do all that an operator does, `watcher_key` only sees what flows, `stranger_key` is an
    operator's of another tenant."""

    def _keys(self) -> str:
        given = {
            "operator": (self.tenant, OPERATOR),
            "watcher": (self.tenant, ("jobs:read",)),
            "stranger": (f"{self.tenant}x", OPERATOR),
        }
        found = {name: secrets.token_hex(16) for name in given}
        entries = [key_entry(name, found[name], *of) for name, of in given.items()]
        (self.folder / "keys.json").write_text(json.dumps(entries))
        key, self.watcher_key, self.stranger_key = (f"hw_{name}_{s}" for name, s in found.items())
        return key

    @property
    def lake(self) -> Settings:
        """Settings of its lake."""
        return lake_settings(self.folder / "lake")


@contextmanager
def ops_api(folder: Path, settings: Settings) -> Iterator[OpsApi]:
    """A server on the settings' database."""
    server = OpsApi(folder)
    server.start(HEADWATER_POSTGRES__API_DSN=settings.postgres.api_dsn, HEADWATER_LAKE=str(folder / "lake"))
    try:
        yield server
    finally:
        if server.process and server.process.poll() is None:
            server.stop()


def filled(api: OpsApi) -> None:
    """Letters of an hour ago, a ledger that adds up, a month of quality."""
    now = datetime.now(UTC)
    mine = {"tenant_id": api.tenant, "failed_at": now - timedelta(minutes=30)}
    letters = [letter(n, "rule:pattern", **mine) for n in range(3)]
    make_lake(api.lake, *letters, letter(3, "empty", **mine), letter(8, tenant_id=f"{api.tenant}x"))
    entered(api, entry(api.tenant, 3600, 0, in_rows=700, silver=650, duplicate=40, dead=7, filtered=3))
    entered(api, entry(f"{api.tenant}x", 60, 1, in_rows=999_999, silver=999_999))
    days = [(30 - n, 0.91 + 0.003 * n) for n in range(1, 30)]
    quality(api, *[("silver.leads", now - timedelta(days=d), share) for d, share in days])
    quality(api, ("gold.session_kpis", now, 0.75))


def entry(
    tenant: str, ago_s: float, batch: int, stream: str = "lead.ingest", **counts: int
) -> dict[str, Any]:
    """A row of the ledger."""
    return {
        "query": "refine.leads", "query_id": "q", "batch_id": batch, "stream": stream, "tenant_id": tenant,
        **dict.fromkeys(COUNTS, 0), **counts, "offsets": [], "code_version": "1",
        "written_at": datetime.now(UTC) - timedelta(seconds=ago_s),
    }  # fmt: skip


def entered(api: OpsApi, *rows: dict[str, Any]) -> None:
    """Rows of one batch, in a file of their own."""
    _append(api.lake, "ops.ledger", pa.Table.from_pylist(list(rows), LEDGER))


def quality(api: OpsApi, *runs: tuple[str, datetime, float]) -> None:
    """Runs of a report: table, moment, share."""
    rows = [
        {
            "run_id": "r", "table": table, "suite": table, "passed": share > 0.9, "expectations": 100,
            "failed": round(100 * (1 - share)), "pass_share": share, "started_at": moment,
        }
        for table, moment, share in runs
    ]  # fmt: skip
    _append(api.lake, "ops.quality_runs", pa.Table.from_pylist(rows, QUALITY))


def beat(
    owner: Connection, query: str, state: str = "running", lag: int | None = 0, silent: str = "0 s"
) -> None:
    """What a job says of a query, so long ago."""
    owner.execute(_BEAT.encode(), (query, query.split(".")[1], state, lag, 1234.5, silent))


def all_beat(owner: Connection) -> None:
    """The queries of two domains; one of them is silent."""
    for query in ("deliver.leads.postgres", "refine.leads", "ingest.leads", "build.crm", "refine.crm"):
        beat(owner, query, lag=12)
    beat(owner, "ingest.crm", silent="10 minutes")


def _append(settings: Settings, name: str, rows: pa.Table) -> None:
    write_deltalake(table_path(settings, name), rows, mode="append")
