"""Which tables PostgreSQL has, keyed by what, and which columns of the lake they take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PostgresTable:
    """A table that is upserted by `key`. `columns` are those that it takes, row_version among them; `called`
    names a column of the lake where the table's has another name."""

    name: str
    key: Sequence[str]
    columns: Sequence[str]
    called: Mapping[str, str] = field(default_factory=dict)
    schema: str = "public"


LEADS = PostgresTable(
    "leads",
    ("tenant_id", "idempotency_key"),
    (
        "id event_id tenant_id idempotency_key source received_at first_name last_name email phone message"
        " submission_type consent ip_address user_agent geo_country geo_city device browser os"
        " utm_source utm_medium utm_campaign utm_content utm_term metadata row_version"
    ).split(),
)
AGENT_TURNS = PostgresTable(
    "agent_turns",
    ("tenant_id", "session_id", "turn_id"),
    (
        "tenant_id session_id turn_id user_id channel model tokens_in tokens_out latency_ms response_text"
        " ts_ms row_version"
    ).split(),
)
FRONTEND_ANALYTICS = PostgresTable(
    "frontend_analytics",
    ("tenant_id", "event_id"),
    (
        "tenant_id event_id session_id user_id event_type page_url widget_id interaction_type ts_ms metadata"
        " row_version"
    ).split(),
)
SESSION_KPIS = PostgresTable(
    "session_kpis",
    ("tenant_id", "session_id"),
    (
        "tenant_id session_id user_id channel turns tokens_in tokens_out avg_latency_ms started_at ended_at"
        " row_version"
    ).split(),
)
BILLING_USAGE = PostgresTable(
    "billing_usage",
    ("account_id", "metric", "window_start"),
    "account_id metric window_start window_end quantity events row_version".split(),
    {"account_id": "tenant_id"},
)


def _events(name: str, columns: str) -> PostgresTable:
    """A table of the CRM's events by month. `created_at` and `updated_at` are the CRM's."""
    return PostgresTable(
        name,
        ("organization_id", "event_id", "event_timestamp"),
        (
            f"event_id {columns} created_at updated_at organization_id event_timestamp event_type metadata"
            " row_version source_topic source_partition source_offset"
        ).split(),
        {"organization_id": "tenant_id", "event_timestamp": "event_time"},
        "analytics",
    )


_PERSON = "first_name last_name email phone company title"
CRM_LEADS = _events("crm_leads_staging", f"lead_id {_PERSON} source status score assigned_to")
CRM_CONTACTS = _events("crm_contacts_staging", f"contact_id {_PERSON} lead_id")
CRM_OPPORTUNITIES = _events(
    "crm_opportunities_staging",
    "opportunity_id name lead_id contact_id amount currency stage probability expected_close_date",
)
CRM_LOG = PostgresTable(
    "crm_events_log",
    ("event_timestamp", "topic", "partition", "offset"),
    (
        "event_id event_type topic partition offset organization_id event_timestamp processing_status"
        " error_message retry_count metadata row_version"
    ).split(),
    {
        "organization_id": "tenant_id",
        "event_timestamp": "event_time",
        "topic": "source_topic",
        "partition": "source_partition",
        "offset": "source_offset",
    },
    "analytics",
)
