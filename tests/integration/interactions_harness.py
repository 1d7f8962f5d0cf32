"""What the tests of the domain interactions share: its destinations against silver and gold of a lake."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from deltalake import DeltaTable as RustTable
from psycopg import sql
from redis import Redis

from headwater.settings import Settings
from headwater.tables import table_path
from local.postgres import dsn
from sinks.postgres_tables import AGENT_TURNS, BILLING_USAGE, FRONTEND_ANALYTICS, SESSION_KPIS, PostgresTable
from tests.flow.oracle import ORACLES, columns, counted, keyed

Rows = dict[tuple[Any, ...], dict[str, Any]]
TABLES: dict[str, PostgresTable] = {
    "silver.agent_turns": AGENT_TURNS,
    "silver.frontend_interactions": FRONTEND_ANALYTICS,
    "gold.session_kpis": SESSION_KPIS,
    "gold.billing_usage": BILLING_USAGE,
}


def read(settings: Settings, name: str, names: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a table of the lake, without Spark."""
    rows = RustTable(table_path(settings, name)).to_pyarrow_table(columns=names)
    return list(rows.to_pylist())


def in_lake(settings: Settings, name: str) -> Rows:
    """The newest row of each key, with PostgreSQL's names of columns."""
    table = TABLES[name]
    found: Rows = {}
    for row in read(settings, name):
        made = {column: _plain(column, row[table.called.get(column, column)]) for column in table.columns}
        key = tuple(made[part] for part in table.key)
        if key not in found or found[key]["row_version"] < made["row_version"]:
            found[key] = made
    return found


def in_postgres(database: str, table: PostgresTable) -> Rows:
    names = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    with psycopg.connect(dsn("headwater_owner", "postgres-owner", database)) as connection:
        connection.execute("SET timezone = 'UTC'")
        found = connection.execute(
            sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(table.name))
        ).fetchall()
    rows = [{c: _plain(c, v) for c, v in zip(table.columns, row, strict=True)} for row in found]
    return {tuple(row[part] for part in table.key): row for row in rows}


def _plain(column: str, value: Any) -> Any:
    if column == "metadata" and isinstance(value, str):
        return json.loads(value)
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def check(settings: Settings, database: str) -> Mapping[str, Rows]:
    """All four tables hold what the lake does."""
    found = {name: in_postgres(database, table) for name, table in TABLES.items()}
    for name, rows in found.items():
        assert rows, name
        assert rows == in_lake(settings, name), name
    return found


def check_gold(settings: Settings) -> None:
    """Every gold table is what SQL over silver's files finds."""
    for name, (silver, *_) in ORACLES.items():
        table = RustTable(table_path(settings, f"silver.{silver}"))
        expected = counted(name, [Path(file.removeprefix("file://")) for file in table.file_uris()])
        assert expected
        assert keyed(name, read(settings, f"gold.{name}", columns(name))) == expected, name


def _order(state: dict[str, Any]) -> tuple[int, ...]:
    """What is higher in the newer of two states, also of those of one millisecond."""
    return state["row_version"], state["seq"] or 0, state["source_partition"]


def check_redis(settings: Settings, client: Redis) -> None:
    """Each session has the state of its newest update and the numbers that gold has of it, nothing else."""
    newest: dict[str, dict[str, Any]] = {}
    for row in read(settings, "silver.agent_sessions"):
        key = f"{row['tenant_id']}:session:{row['session_id']}:state"
        if key not in newest or _order(newest[key]) < _order(row):
            newest[key] = row
    expected: dict[str, list[Any]] = {key: [row["seq"], row["status"]] for key, row in newest.items()}
    for row in read(settings, "gold.session_kpis"):
        key = f"{row['tenant_id']}:session:{row['session_id']}:metrics"
        expected[key] = [row["turns"], row["avg_latency_ms"]]
    keys = [str(key) for key in client.scan_iter()]
    said = {key: json.loads(client.hget(key, "v") or "null") for key in keys}
    wanted = {"state": ("seq", "status"), "metrics": ("total_turns", "avg_response_time")}
    found = {key: [value[name] for name in wanted[key.rpartition(":")[2]]] for key, value in said.items()}
    assert found == expected
    assert all(0 < client.ttl(key) <= 86_400 for key in keys)
