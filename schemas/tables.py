"""Every Delta table: columns, partitioning, and which columns may carry statistics.

Statistics end up in `_delta_log`, which outlives erased rows: only columns without personal data are listed.
"""

from dataclasses import dataclass

from headwater.errors import SetupError

# From silver on every table ends with these.
LINEAGE = """
  tenant_id STRING, row_version BIGINT, event_time TIMESTAMP, ingested_at TIMESTAMP, refined_at TIMESTAMP,
  source_topic STRING, source_partition INT, source_offset BIGINT, extras STRING
"""
# Where a record lies in Kafka, as bronze names it, and as all tables after it do.
PLACE = ("topic", "partition", "offset")
SOURCE = tuple(f"source_{part}" for part in PLACE)
_SILVER_STATISTICS = (
    "tenant_id",
    "row_version",
    "event_time",
    "refined_at",
    "source_topic",
    "source_partition",
    "source_offset",
)


@dataclass(frozen=True)
class Table:
    """A Delta table under <lake>/<layer>/<name>. `columns` is a Spark DDL string."""

    layer: str
    name: str
    columns: str
    statistics: tuple[str, ...]
    partitions: tuple[str, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()  # Delta's, besides those that all tables have

    @property
    def full_name(self) -> str:
        return f"{self.layer}.{self.name}"

    @property
    def names(self) -> list[str]:
        """The columns' names, in their order."""
        return list(self.kinds)

    @property
    def kinds(self) -> dict[str, str]:
        """Column → its type, in their order. Commas inside of brackets do not separate."""
        depth, columns = 0, [""]
        for letter in self.columns:
            depth += (letter in "<(") - (letter in ">)")
            if letter == "," and not depth:
                columns.append("")
            else:
                columns[-1] += letter
        return dict(column.split(maxsplit=1) for column in columns)


def bronze(domain: str) -> Table:
    """One raw table per domain: Kafka records as bytes, once each by (topic, partition, offset)."""
    return Table(
        "bronze",
        domain,
        """key BINARY, value BINARY, headers ARRAY<STRUCT<key: STRING, value: BINARY>>,
           topic STRING, partition INT, offset BIGINT, kafka_timestamp TIMESTAMP,
           ingested_at TIMESTAMP, ingest_date DATE""",
        ("partition", "offset", "ingested_at"),
        ("topic", "ingest_date"),
    )


LEADS = Table(
    "silver",
    "leads",
    """id STRING, event_id STRING, idempotency_key STRING, source STRING, received_at TIMESTAMP,
       first_name STRING, last_name STRING, email STRING, phone STRING, message STRING,
       submission_type STRING, consent BOOLEAN, ip_address STRING, user_agent STRING,
       geo_country STRING, geo_city STRING, device STRING, browser STRING, os STRING,
       utm_source STRING, utm_medium STRING, utm_campaign STRING, utm_content STRING, utm_term STRING,
       metadata STRING,"""
    + LINEAGE,
    _SILVER_STATISTICS,
)


def _dated(name: str, columns: str) -> Table:
    """A silver table by the day of its events: gold reads the days that it needs."""
    return Table("silver", name, f"{columns}, event_date DATE,{LINEAGE}", _SILVER_STATISTICS, ("event_date",))


AGENT_TURNS = _dated(
    "agent_turns",
    """event_id STRING, session_id STRING, turn_id STRING, user_id STRING, channel STRING, model STRING,
       tokens_in INT, tokens_out INT, latency_ms DOUBLE, response_text STRING, ts_ms BIGINT""",
)
TOOL_INVOCATIONS = _dated(
    "tool_invocations",
    """event_id STRING, session_id STRING, turn_id STRING, tool_name STRING, status STRING,
       duration_ms DOUBLE, ts_ms BIGINT""",
)
AGENT_SESSIONS = _dated(
    "agent_sessions",
    """event_id STRING, session_id STRING, user_id STRING, channel STRING, status STRING,
       last_turn_id STRING, last_message STRING, seq BIGINT, ts_ms BIGINT""",
)
FRONTEND_INTERACTIONS = _dated(
    "frontend_interactions",
    """event_id STRING, session_id STRING, user_id STRING, event_type STRING, page_url STRING,
       widget_id STRING, interaction_type STRING, ts_ms BIGINT, metadata STRING""",
)
FRONTEND_SESSIONS = _dated(
    "frontend_sessions",
    """event_id STRING, session_id STRING, user_id STRING, page_views INT, duration_ms DOUBLE,
       bounced BOOLEAN, entry_url STRING, exit_url STRING, referrer STRING, ts_ms BIGINT, metadata STRING""",
)
WIDGET_PERFORMANCE = _dated(
    "widget_performance",
    """event_id STRING, session_id STRING, widget_id STRING, load_ms DOUBLE, render_ms DOUBLE,
       error_count INT, ts_ms BIGINT, metadata STRING""",
)
USAGE = _dated(
    "usage",
    """event_id STRING, metric STRING, quantity DECIMAL(20,6), unit STRING, session_id STRING,
       model STRING, ts_ms BIGINT""",
)
MARKETO_LEADS = _dated(
    "marketo_leads",
    """event_id STRING, marketo_id STRING, change_type STRING, updated_at TIMESTAMP, email STRING,
       first_name STRING, last_name STRING, company STRING, attributes STRING""",
)

_PERSON = """first_name STRING, last_name STRING, email STRING, phone STRING, company STRING, title STRING"""
_CHANGED = "created_at TIMESTAMP, updated_at TIMESTAMP, metadata STRING"
CRM_LEADS = _dated(
    "crm_leads",
    f"""id STRING, event_id STRING, event_type STRING, lead_id STRING, {_PERSON}, source STRING,
        status STRING, score INT, assigned_to STRING, {_CHANGED}""",
)
CRM_CONTACTS = _dated(
    "crm_contacts",
    f"""id STRING, event_id STRING, event_type STRING, contact_id STRING, {_PERSON}, lead_id STRING,
        {_CHANGED}""",
)
CRM_OPPORTUNITIES = _dated(
    "crm_opportunities",
    f"""id STRING, event_id STRING, event_type STRING, opportunity_id STRING, name STRING, lead_id STRING,
        contact_id STRING, amount DECIMAL(15,2), currency STRING, stage STRING, probability INT,
        expected_close_date DATE, {_CHANGED}""",
)
CRM_EVENTS = _dated(
    "crm_events", "id STRING, event_id STRING, event_type STRING, data STRING, metadata STRING"
)

# Of a record's bytes, a dead letter keeps so many.
LETTER_PAYLOAD_BYTES = 256 << 10
DEAD_LETTERS = Table(
    "ops",
    "dead_letters",
    """dead_letter_id STRING, fingerprint STRING, stream STRING, stage STRING, tenant_id STRING,
       reasons ARRAY<STRUCT<code: STRING, rule: STRING, field: STRING, message: STRING>>,
       payload BINARY, headers ARRAY<STRUCT<key: STRING, value: BINARY>>,
       source_topic STRING, source_partition INT, source_offset BIGINT,
       event_id STRING, event_time TIMESTAMP, failed_at TIMESTAMP, code_version STRING,
       contract_version STRING,
       replay_count INT, replay_of STRING, status STRING, failed_sinks ARRAY<STRING>""",
    (
        "dead_letter_id",
        "stream",
        "stage",
        "tenant_id",
        "source_topic",
        "source_partition",
        "source_offset",
        "failed_at",
    ),
)

# Valid events that their tenant does not want: no payload, which bronze has.
FILTERED = Table(
    "ops",
    "filtered",
    """stream STRING, tenant_id STRING, filter STRING,
       source_topic STRING, source_partition INT, source_offset BIGINT,
       event_time TIMESTAMP, refined_at TIMESTAMP, code_version STRING""",
    (
        "stream",
        "tenant_id",
        "filter",
        "source_topic",
        "source_partition",
        "source_offset",
        "refined_at",
    ),
)

LEDGER = Table(
    "ops",
    "ledger",
    """query STRING, query_id STRING, batch_id BIGINT, stream STRING, tenant_id STRING,
       in_rows BIGINT, silver BIGINT, duplicate BIGINT, dead BIGINT, no_consent BIGINT, erased BIGINT,
       filtered BIGINT, offsets MAP<STRING, ARRAY<BIGINT>>, code_version STRING, written_at TIMESTAMP""",
    ("query", "query_id", "batch_id", "stream", "written_at"),
)

JOB_RUNS = Table(
    "ops",
    "job_runs",
    """job STRING, run_id STRING, status STRING, rows_in BIGINT, rows_out BIGINT, duplicate BIGINT,
       dead BIGINT, no_consent BIGINT, erased BIGINT, filtered BIGINT, seconds DOUBLE, error STRING,
       started_at TIMESTAMP, ended_at TIMESTAMP, code_version STRING""",
    ("job", "run_id", "status", "ended_at"),
)

# What a table, or the ledger, was found to be by a report. `failures` holds counts, never a value.
QUALITY_RUNS = Table(
    "ops",
    "quality_runs",
    """run_id STRING, table STRING, table_version BIGINT, suite STRING, rows BIGINT, rows_taken BIGINT,
       how STRING, passed BOOLEAN, expectations INT, failed INT, pass_share DOUBLE,
       failures ARRAY<STRUCT<expectation: STRING, column: STRING, severity: STRING, unexpected: BIGINT,
         share: DOUBLE, stream: STRING, tenant_id: STRING, message: STRING>>,
       tracked BOOLEAN, started_at TIMESTAMP, ended_at TIMESTAMP, code_version STRING""",
    ("run_id", "table", "table_version", "suite", "started_at", "ended_at"),
)

# Valid rows of uploaded files: `data` is the row as canonical JSON, `content_hash` its SHA-256. In the
# lineage `source_topic` is upload/<job>, `source_partition` the file in an archive, `source_offset` the line.
UPLOADED_ROWS = Table(
    "silver",
    "uploaded_rows",
    "job_id STRING, dataset STRING, content_hash STRING, data STRING," + LINEAGE,
    ("job_id", "dataset", *_SILVER_STATISTICS),
)

# What a chunk of a file gives: valid rows (content_hash, data), invalid ones (reasons, raw), one row with the
# number of rows `read`, and one with `refused`, a code, where the file turns out to be broken.
STAGING = "staging"
STAGED_COLUMNS = """member INT, line BIGINT, content_hash STRING, data STRING,
  reasons ARRAY<STRUCT<code: STRING, rule: STRING, field: STRING, message: STRING>>, raw BINARY,
  read BIGINT, refused STRING"""


def staging(name: str) -> Table:
    """The table of one attempt at an import, gone when that ends."""
    return Table(STAGING, name, STAGED_COLUMNS, ("member", "line"))


# Which silver table a stream's events become.
SILVER = {
    "lead.ingest": LEADS,
    "text.agent.turn.completed": AGENT_TURNS,
    "agent.tool.invoked": TOOL_INVOCATIONS,
    "text.agent.session.updated": AGENT_SESSIONS,
    "frontend.user.interaction": FRONTEND_INTERACTIONS,
    "frontend.session.analytics": FRONTEND_SESSIONS,
    "frontend.widget.performance": WIDGET_PERFORMANCE,
    "billing.usage.metered": USAGE,
    "marketo.leads.delta": MARKETO_LEADS,
    "crm.leads": CRM_LEADS,
    "crm.contacts": CRM_CONTACTS,
    "crm.opportunities": CRM_OPPORTUNITIES,
    "crm.events": CRM_EVENTS,
}
OPS = (DEAD_LETTERS, FILTERED, LEDGER, JOB_RUNS, QUALITY_RUNS)


def silver_tables(streams: list[str]) -> list[Table]:
    """The silver tables of these streams. Raises SetupError for a stream without one."""
    missing = [s for s in streams if s not in SILVER]
    if missing:
        raise SetupError(f"no silver table for {', '.join(missing)}: add a line to schemas/tables.py SILVER")
    return [SILVER[s] for s in streams]
