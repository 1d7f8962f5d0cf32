"""What each column of the lake holds, in words, and which columns are personal: for whoever reads it.

Of silver the contracts say it; what they do not name, and gold, is said here. By column name: a name means
the same in every table, or stands below with its table.
"""

from functools import cache

from headwater.text import snake_case
from schemas.contract import Field, contracts
from schemas.gold import GOLD
from schemas.tables import OPS, SILVER, UPLOADED_ROWS, Table, bronze, silver_tables

# Hold whole records, or what nobody has described, and so perhaps anything; keys are of the caller's making.
RAW = frozenset(
    {"key", "value", "headers", "payload", "extras", "data", "idempotency_key", "metadata", "attributes"}
)

COLUMNS = {
    # the lineage
    "tenant_id": "Whose row this is.",
    "row_version": "Of rows with the same key the highest is the newest.",
    "event_time": "When it happened, UTC; of gold the latest of the events counted.",
    "ingested_at": "When it was taken from Kafka, UTC; of gold the latest.",
    "refined_at": "When it entered silver, UTC; of gold the latest: so fresh is the row.",
    "source_topic": "Kafka's topic; of gold that of the newest event.",
    "source_partition": "Kafka's partition.",
    "source_offset": "Kafka's offset.",
    "extras": "Fields that the contract does not name, as JSON; empty in gold.",
    "event_date": "The UTC day of the event, or of the row's hour or first turn; the table's partition.",
    # bronze
    "key": "Kafka's key, as it came.",
    "value": "The record, as it came.",
    "headers": "Kafka's headers, as they came.",
    "topic": "Kafka's topic.",
    "partition": "Kafka's partition.",
    "offset": "Kafka's offset; with topic and partition it names the record.",
    "kafka_timestamp": "Kafka's time of the record, UTC.",
    "ingest_date": "The UTC day of ingested_at.",
    # silver
    "id": "The lead's id, the same in all stores.",
    "geo_country": "Country by the address.",
    "geo_city": "City by the address.",
    "device": "Kind of device by the user agent.",
    "browser": "Browser by the user agent.",
    "os": "Operating system by the user agent.",
    "job_id": "The upload.",
    "dataset": "The dataset whose contract the row keeps.",
    "content_hash": "SHA-256 of the row.",
    "data": "The row, as JSON.",
    # windows and measures
    "window_start": "The hour's beginning, UTC, included.",
    "window_end": "The hour's end, UTC, not included.",
    "day": "The UTC day of use.",
    "events": "Events counted, each once.",
    # ops
    "stream": "The contract's name.",
    "query": "The query that did it.",
    "query_id": "The id of its checkpoint.",
    "run_id": "The run that did it.",
    "code_version": "The version of the code that did it.",
    "duplicate": "Records that had come before.",
    "dead": "Records that became dead letters.",
    "no_consent": "Records that were left out, for consent was refused.",
    "erased": "Records that were erased.",
    "filtered": "Records that were left out, for their tenant does not want them.",
    "filter": "The tenant's filter that left it out.",
}

_EVENT_ID = "The CRM's own id of the event."
TABLES = {
    # Of `data` the contracts say `id`, too.
    "silver.crm_leads": {"id": _EVENT_ID, "lead_id": "The CRM's id of the lead."},
    "silver.crm_contacts": {"id": _EVENT_ID, "contact_id": "The CRM's id of the contact."},
    "silver.crm_opportunities": {"id": _EVENT_ID, "opportunity_id": "The CRM's id of the opportunity."},
    "gold.session_kpis": {
        "session_id": "The conversation; with the tenant the key.",
        "user_id": "Who talked, the newest that was named.",
        "channel": "Where, the newest that was named.",
        "turns": "Turns, each once.",
        "tokens_in": "Tokens read in all turns; null where no turn said.",
        "tokens_out": "Tokens written in all turns; null where no turn said.",
        "avg_latency_ms": "Mean of the turns' latencies, in milliseconds.",
        "started_at": "Its first turn, UTC.",
        "ended_at": "Its last turn, UTC.",
    },
    "gold.usage_hourly": {
        "model": "The language model; empty where none was named.",
        "quantity": "Used in the hour, in units, exact.",
    },
    "gold.billing_usage": {"quantity": "Used in the hour with all models, exact."},
    "gold.billing_daily": {
        "period": "The month it is billed in, by its first day; later than `day` is an adjustment.",
        "model": "The language model; empty where none was named.",
        "quantity": "Used on the day, in units, exact; of an adjustment the difference.",
        "events": "Events counted; of an adjustment the difference.",
        "amount": "Quantity by price, to the cent, half even; of an adjustment the difference.",
        "unpriced": "How many of the events no rate fits.",
        "currency": "Of the amount, ISO 4217.",
    },
    "gold.billing_periods": {
        "month": "The closed month, by its first day.",
        "lines": "Lines of gold.billing_daily that are billed in it.",
        "amount": "Their sum.",
        "currency": "Of the amount, ISO 4217.",
        "closed_at": "When it was closed, UTC.",
    },
    "gold.frontend_hourly": {
        "sessions": "Distinct visits.",
        "users": "Distinct people, of those that were named.",
        "pages": "Distinct pages, of those that were named.",
    },
    "gold.widget_hourly": {
        "loads": "How often it was loaded.",
        "p50_load_ms": "Half of the loads took no longer, in milliseconds; exact.",
        "p95_load_ms": "19 of 20 loads took no longer, in milliseconds; exact.",
        "avg_render_ms": "Mean time to render, in milliseconds.",
        "errors": "Errors on the way.",
    },
    "gold.tool_hourly": {
        "calls": "How often it was called.",
        "errors": "Calls that ended with an error.",
        "error_share": "Errors by calls, from 0 to 1.",
        "p95_duration_ms": "19 of 20 calls took no longer, in milliseconds; exact.",
    },
    "gold.crm_pipeline": {
        "opportunity_id": "The CRM's id of the opportunity; with the tenant the key.",
        "status": "open, won or lost.",
        "weighted": "Of an open one the amount by its probability; of a won one all of it; else nothing.",
        "opened_at": "Its first event, UTC.",
        "changed_at": "Its newest event, UTC.",
        "closed_at": "When it was won or lost, UTC; null while it is open.",
    },
    "gold.crm_pipeline_daily": {
        "day": "The UTC day at whose end this is so, and until the next row with that group.",
        "currency": "Of the sums, ISO 4217; empty where none was named.",
        "stage": "Their stage; empty where none was named.",
        "status": "open, won or lost.",
        "opportunities": "How many there were.",
        "amount": "What they came to.",
        "weighted": "What they came to, weighted as in gold.crm_pipeline.",
    },
    "gold.lead_journey": {
        "lead_id": "The captured lead, `id` in silver.leads; with the tenant the key.",
        "captured_at": "When it was captured, UTC.",
        "source": "Where it was captured.",
        "campaign": "Its utm_campaign.",
        "reached": "How far it came: captured, crm_lead, contact, opportunity, won or lost.",
        "crm_lead_id": "The CRM's lead.",
        "crm_lead_link": "What made the match: id or email.",
        "crm_lead_at": "The CRM lead's first event, UTC.",
        "contact_id": "The CRM's contact.",
        "contact_link": "What made the match: lead_id or email.",
        "contact_at": "The contact's first event, UTC.",
        "opportunity_id": "The CRM's opportunity.",
        "opportunity_link": "What made the match: contact_id or lead_id.",
        "opportunity_at": "The opportunity's first event, UTC.",
        "amount": "The opportunity's.",
        "currency": "Of the amount, ISO 4217.",
        "closed_at": "When the opportunity was won or lost, UTC.",
    },
    "gold.lead_funnel_daily": {
        "day": "The UTC day of capture.",
        "source": "Where the leads were captured.",
        "campaign": "Their utm_campaign; empty where none was named.",
        "captured": "Leads captured.",
        "crm_leads": "Of these, those that came to the CRM.",
        "contacts": "Of these, those that came to a contact, or further.",
        "opportunities": "Of these, those that came to an opportunity.",
        "won": "Of these, those whose opportunity was won.",
        "lost": "Of these, those whose opportunity was lost.",
    },
    "ops.dead_letters": {
        "dead_letter_id": "The dead letter.",
        "fingerprint": "The same for the same fault of the same record.",
        "stage": "Where it was refused: api, decode, validate, or sink:<name>.",
        "reasons": "Why: code, rule, field, message; never a value.",
        "payload": "The record as it came, up to 256 KiB.",
        "event_id": "The event, where it could be read.",
        "failed_at": "When it was refused, UTC.",
        "contract_version": "The version of the contract that it was held against.",
        "replay_count": "How often it was sent again.",
        "replay_of": "The dead letter that this one was sent again for.",
        "status": "new, replayed, discarded or erased.",
        "failed_sinks": "The destinations that refused it.",
    },
    "ops.ledger": {
        "batch_id": "The batch of that checkpoint.",
        "in_rows": "Records that came in.",
        "silver": "Records that entered silver.",
        "offsets": "Of each topic and partition the first and last offset.",
        "written_at": "When it was entered, UTC.",
    },
    "ops.quality_runs": {
        "table": "The table that was held against its suite; ops.ledger: the numbers of the ledger.",
        "table_version": "Its version.",
        "suite": "The contract with its version, and the file of hand-written expectations.",
        "rows": "Rows of that version.",
        "rows_taken": "Rows that were looked at.",
        "how": "all, partitions (the newest) or sample.",
        "passed": "Whether every gate passed.",
        "expectations": "Expectations, or checks of the ledger.",
        "failed": "Of these, those that failed, warnings too.",
        "pass_share": "Of these, those that passed, from 0 to 1.",
        "failures": "What failed: counts and shares, never a value.",
        "tracked": "Whether MLflow has the run.",
        "started_at": "When it began, UTC.",
        "ended_at": "When it ended, UTC.",
    },
    "ops.job_runs": {
        "job": "The job.",
        "status": "How it ended.",
        "rows_in": "Rows read.",
        "rows_out": "Rows written.",
        "seconds": "How long it took.",
        "error": "What it failed of.",
        "started_at": "When it began, UTC.",
        "ended_at": "When it ended, UTC.",
    },
}


@cache
def lake_tables() -> tuple[Table, ...]:
    """Every table that the lake may have, layer by layer."""
    domains = sorted({contract.domain for contract in contracts().values()})
    silver = silver_tables(sorted(contracts()))
    return (*map(bronze, domains), *silver, UPLOADED_ROWS, *GOLD, *OPS)


@cache
def personal_columns() -> frozenset[str]:
    """Names that are personal in any contract, and those of raw records: in every table, to be safe."""
    named = {column_of(f) for contract in contracts().values() for f in contract.leaves if f.personal}
    return frozenset(named | RAW)


def comments(table: Table) -> dict[str, str]:
    """Column → what it holds, of all columns of the table, in their order. Raises KeyError for one that
    nobody has described."""
    said = COLUMNS | _by_contracts(table) | TABLES.get(table.full_name, {})
    return {name: said[name] for name in table.names}


def _by_contracts(table: Table) -> dict[str, str]:
    """What the table's own contract says; for gold any that has the field, as it is counted from these."""
    own = [contract for stream, contract in contracts().items() if SILVER[stream] == table]
    found = own if table.layer == "silver" else list(contracts().values()) if table.layer == "gold" else []
    lineage = {"event_time", "tenant_id"}
    return {
        column_of(f): f.description
        for contract in found
        for f in contract.leaves
        if column_of(f) not in lineage
    }


def column_of(field: Field) -> str:
    """The column that a contract's field goes into."""
    name = snake_case(field.name)
    return f"utm_{name}" if "utm" in field.path[:-1] else name
