"""Gold tables: what is counted of silver, one row a key, replaced whenever a row of silver touches it.

They end with the lineage, too: the times are the latest of the rows that were counted, the place is that of
the newest. Only `row_version` is their own: the time of `refined_at`, and more with every replacement, for a
late event changes a sum and is not the newest of its events.
"""

from dataclasses import replace

from schemas.tables import LINEAGE, Table

_WINDOW = "window_start TIMESTAMP, window_end TIMESTAMP"
_STATISTICS = ("tenant_id", "row_version", "event_time", "refined_at")
# Whoever delivers gold reads what was replaced and deleted.
_PROPERTIES = (("delta.enableChangeDataFeed", "true"),)


def _gold(name: str, columns: str, *statistics: str) -> Table:
    return Table(
        "gold",
        name,
        f"{columns}, event_date DATE,{LINEAGE}",
        (*statistics, *_STATISTICS),
        ("event_date",),
        _PROPERTIES,
    )


# One conversation; `event_date` is the day of its first turn.
SESSION_KPIS = _gold(
    "session_kpis",
    """session_id STRING, user_id STRING, channel STRING, turns INT, tokens_in BIGINT, tokens_out BIGINT,
       avg_latency_ms DOUBLE, started_at TIMESTAMP, ended_at TIMESTAMP""",
    "started_at",
    "ended_at",
)
# Of which the other tables of billing are made.
USAGE_HOURLY = _gold(
    "usage_hourly",
    f"""metric STRING, model STRING, {_WINDOW}, day DATE, unit STRING, quantity DECIMAL(30,6),
        events BIGINT""",
    "window_start",
)
BILLING_USAGE = _gold(
    "billing_usage",
    f"metric STRING, {_WINDOW}, quantity DECIMAL(30,6), events BIGINT",
    "window_start",
)
# A line of a bill; `period` is the month it is billed in, `unpriced` how many of its events no rate fits.
BILLING_DAILY = _gold(
    "billing_daily",
    """period DATE, day DATE, metric STRING, model STRING, unit STRING, quantity DECIMAL(30,6), events BIGINT,
       amount DECIMAL(20,2), unpriced BIGINT, currency STRING""",
    "period",
    "day",
)
# Months that were closed, in their order, and what was billed in each.
BILLING_PERIODS = Table(
    "gold",
    "billing_periods",
    """month DATE, lines BIGINT, amount DECIMAL(30,2), currency STRING, closed_at TIMESTAMP, run_id STRING,
       code_version STRING""",
    ("month", "closed_at"),
)
FRONTEND_HOURLY = _gold(
    "frontend_hourly",
    f"event_type STRING, {_WINDOW}, events BIGINT, sessions BIGINT, users BIGINT, pages BIGINT",
    "window_start",
)
WIDGET_HOURLY = _gold(
    "widget_hourly",
    f"""widget_id STRING, {_WINDOW}, loads BIGINT, p50_load_ms DOUBLE, p95_load_ms DOUBLE,
        avg_render_ms DOUBLE, errors BIGINT""",
    "window_start",
)
TOOL_HOURLY = _gold(
    "tool_hourly",
    f"""tool_name STRING, {_WINDOW}, calls BIGINT, errors BIGINT, error_share DOUBLE,
        p95_duration_ms DOUBLE""",
    "window_start",
)


def _crm(name: str, columns: str, *statistics: str) -> Table:
    """Not by day: some rows a day would be a file each, and what a batch changes is of any days."""
    return replace(_gold(name, columns, "event_date", *statistics), partitions=())


# An opportunity as its newest event says; `event_date` is the day of its first event.
CRM_PIPELINE = _crm(
    "crm_pipeline",
    """opportunity_id STRING, lead_id STRING, contact_id STRING, stage STRING, status STRING,
       amount DECIMAL(20,2), currency STRING, probability INT, weighted DECIMAL(20,2),
       expected_close_date DATE, opened_at TIMESTAMP, changed_at TIMESTAMP, closed_at TIMESTAMP""",
)
CRM_PIPELINE_DAILY = _crm(
    "crm_pipeline_daily",
    """day DATE, currency STRING, stage STRING, status STRING, opportunities BIGINT, amount DECIMAL(30,2),
       weighted DECIMAL(30,2)""",
    "day",
)
# What became of a lead that was captured; `event_date` is the day of its capture.
LEAD_JOURNEY = _crm(
    "lead_journey",
    """lead_id STRING, captured_at TIMESTAMP, source STRING, campaign STRING, reached STRING,
       crm_lead_id STRING, crm_lead_link STRING, crm_lead_at TIMESTAMP,
       contact_id STRING, contact_link STRING, contact_at TIMESTAMP,
       opportunity_id STRING, opportunity_link STRING, opportunity_at TIMESTAMP,
       amount DECIMAL(20,2), currency STRING, closed_at TIMESTAMP""",
)
LEAD_FUNNEL_DAILY = _crm(
    "lead_funnel_daily",
    """day DATE, source STRING, campaign STRING, captured BIGINT, crm_leads BIGINT, contacts BIGINT,
       opportunities BIGINT, won BIGINT, lost BIGINT""",
    "day",
)
GOLD = (
    SESSION_KPIS,
    USAGE_HOURLY,
    BILLING_USAGE,
    BILLING_DAILY,
    BILLING_PERIODS,
    FRONTEND_HOURLY,
    WIDGET_HOURLY,
    TOOL_HOURLY,
    CRM_PIPELINE,
    CRM_PIPELINE_DAILY,
    LEAD_JOURNEY,
    LEAD_FUNNEL_DAILY,
)
