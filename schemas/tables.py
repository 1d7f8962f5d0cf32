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

    @property
    def full_name(self) -> str:
        return f"{self.layer}.{self.name}"


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

LEDGER = Table(
    "ops",
    "ledger",
    """query STRING, query_id STRING, batch_id BIGINT, stream STRING, tenant_id STRING,
       in_rows BIGINT, silver BIGINT, duplicate BIGINT, dead BIGINT, no_consent BIGINT, erased BIGINT,
       offsets MAP<STRING, ARRAY<BIGINT>>, code_version STRING, written_at TIMESTAMP""",
    ("query", "query_id", "batch_id", "stream", "written_at"),
)

JOB_RUNS = Table(
    "ops",
    "job_runs",
    """job STRING, run_id STRING, status STRING, rows_in BIGINT, rows_out BIGINT, duplicate BIGINT,
       dead BIGINT, no_consent BIGINT, erased BIGINT, seconds DOUBLE, error STRING,
       started_at TIMESTAMP, ended_at TIMESTAMP, code_version STRING""",
    ("job", "run_id", "status", "ended_at"),
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
SILVER = {"lead.ingest": LEADS}
OPS = (DEAD_LETTERS, LEDGER, JOB_RUNS)


def silver_tables(streams: list[str]) -> list[Table]:
    """The silver tables of these streams. Raises SetupError for a stream without one."""
    missing = [s for s in streams if s not in SILVER]
    if missing:
        raise SetupError(f"no silver table for {', '.join(missing)}: add a line to schemas/tables.py SILVER")
    return [SILVER[s] for s in streams]
