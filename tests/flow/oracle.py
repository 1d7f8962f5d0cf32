"""Gold's oracle: what DuckDB finds over the rows of silver, in SQL that was written apart."""

from pathlib import Path
from typing import Any

import duckdb

# The newest of the rows that agree in their identity.
_NEWEST = """
  SELECT * FROM read_parquet({files}, hive_partitioning = true, union_by_name = true)
  QUALIFY row_number() OVER (
    PARTITION BY {identity} ORDER BY row_version DESC, source_partition DESC, source_offset DESC) = 1
"""
ORACLES = {
    "session_kpis": (
        "agent_turns",
        "tenant_id, session_id, turn_id",
        """SELECT tenant_id, session_id,
             arg_max(user_id, row_version) FILTER (user_id IS NOT NULL) AS user_id,
             arg_max(channel, row_version) FILTER (channel IS NOT NULL) AS channel,
             count(*) AS turns, sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out,
             avg(latency_ms) AS avg_latency_ms, min(event_time) AS started_at, max(event_time) AS ended_at
           FROM newest GROUP BY ALL""",
    ),
    "billing_usage": (
        "usage",
        "tenant_id, event_id",
        """SELECT tenant_id, metric, date_trunc('hour', event_time) AS window_start,
             sum(quantity) AS quantity, count(*) AS events
           FROM newest GROUP BY ALL""",
    ),
    "frontend_hourly": (
        "frontend_interactions",
        "tenant_id, event_id",
        """SELECT tenant_id, event_type, date_trunc('hour', event_time) AS window_start, count(*) AS events,
             count(DISTINCT session_id) AS sessions, count(DISTINCT user_id) AS users,
             count(DISTINCT page_url) AS pages
           FROM newest GROUP BY ALL""",
    ),
    "widget_hourly": (
        "widget_performance",
        "tenant_id, event_id",
        """SELECT tenant_id, widget_id, date_trunc('hour', event_time) AS window_start, count(*) AS loads,
             quantile_cont(load_ms, 0.5) AS p50_load_ms, quantile_cont(load_ms, 0.95) AS p95_load_ms,
             avg(render_ms) AS avg_render_ms, coalesce(sum(error_count), 0) AS errors
           FROM newest GROUP BY ALL""",
    ),
    "tool_hourly": (
        "tool_invocations",
        "tenant_id, event_id",
        """SELECT tenant_id, tool_name, date_trunc('hour', event_time) AS window_start, count(*) AS calls,
             count(*) FILTER (status = 'error') AS errors,
             count(*) FILTER (status = 'error') / count(*) AS error_share,
             quantile_cont(duration_ms, 0.95) AS p95_duration_ms
           FROM newest GROUP BY ALL""",
    ),
}
"""Gold table → the silver table that it counts, what tells its rows apart, the query."""

Rows = dict[tuple[Any, ...], dict[str, Any]]


def counted(gold: str, files: list[Path]) -> Rows:
    """What the gold table should hold, by its key (the columns up to the first measure), numbers rounded."""
    _, identity, query = ORACLES[gold]
    if not files:
        return {}
    listed = "[" + ", ".join(f"'{file}'" for file in files) + "]"
    newest = _NEWEST.format(files=listed, identity=identity)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(f"WITH newest AS ({newest}) {query}")
        names = [column[0] for column in found.description or []]
        return keyed(gold, [dict(zip(names, row, strict=True)) for row in found.fetchall()])


def keyed(gold: str, rows: list[dict[str, Any]]) -> Rows:
    """The same form of rows that were read elsewhere: the oracle's columns; no key twice."""
    size = 2 if gold == "session_kpis" else 3
    names = columns(gold)
    made = {tuple(row[n] for n in names[:size]): {n: _plain(row[n]) for n in names[size:]} for row in rows}
    assert len(made) == len(rows)
    return made


def columns(gold: str) -> list[str]:
    """The oracle's columns, the key first."""
    names = (
        "tenant_id "
        + {
            "session_kpis": "session_id user_id channel turns tokens_in tokens_out avg_latency_ms started_at"
            " ended_at",
            "billing_usage": "metric window_start quantity events",
            "frontend_hourly": "event_type window_start events sessions users pages",
            "widget_hourly": "widget_id window_start loads p50_load_ms p95_load_ms avg_render_ms errors",
            "tool_hourly": "tool_name window_start calls errors error_share p95_duration_ms",
        }[gold]
    )
    return names.split()


def _plain(value: Any) -> Any:
    """Doubles to nine places: sums of them depend on their order."""
    return round(value, 9) if isinstance(value, float) else value
