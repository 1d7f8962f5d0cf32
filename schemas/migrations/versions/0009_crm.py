"""CRM: staging tables by month, the log of records, the ids that were processed, and who may do what there.

Columns are the CRM document's DDL. What it lacked: a partitioned table cannot have `id` or `event_id` alone
unique, so staging is keyed by tenant, event and time, and `crm_event_ids` is the one place that says that an
event was processed; the version that keeps old from overwriting new; the record that a row came from. There
is no default partition: a month is made by a function before its first row.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

HEAD = {"id": "UUID NOT NULL DEFAULT gen_random_uuid()", "event_id": "VARCHAR(255) NOT NULL"}
PERSON = {
    "first_name": "VARCHAR(255)",
    "last_name": "VARCHAR(255)",
    "email": "VARCHAR(255)",
    "phone": "VARCHAR(100)",
    "company": "VARCHAR(255)",
    "title": "VARCHAR(255)",
}
# `created_at` and `updated_at` are the CRM's times of the lead, contact or opportunity, not of the row.
TAIL = {
    "created_at": "TIMESTAMPTZ",
    "updated_at": "TIMESTAMPTZ",
    "organization_id": "VARCHAR(100) NOT NULL",
    "event_timestamp": "TIMESTAMPTZ NOT NULL DEFAULT NOW()",
    "event_type": "VARCHAR(50) NOT NULL",
    "processed_at": "TIMESTAMPTZ DEFAULT NOW()",
    "metadata": "JSONB",
    "ingestion_id": "UUID DEFAULT gen_random_uuid()",
    "row_version": "BIGINT NOT NULL",
    "source_topic": "VARCHAR(100) NOT NULL",
    "source_partition": "INTEGER NOT NULL",
    "source_offset": "BIGINT NOT NULL",
}
STAGING = {
    "crm_leads_staging": {
        **HEAD,
        "lead_id": "VARCHAR(255) NOT NULL",
        **PERSON,
        "source": "VARCHAR(100)",
        "status": "VARCHAR(50)",
        "score": "INTEGER",
        "assigned_to": "VARCHAR(255)",
        **TAIL,
    },
    "crm_contacts_staging": {
        **HEAD,
        "contact_id": "VARCHAR(255) NOT NULL",
        **PERSON,
        "lead_id": "VARCHAR(255)",
        **TAIL,
    },
    "crm_opportunities_staging": {
        **HEAD,
        "opportunity_id": "VARCHAR(255) NOT NULL",
        "name": "VARCHAR(500) NOT NULL",
        "lead_id": "VARCHAR(255)",
        "contact_id": "VARCHAR(255)",
        "amount": "DECIMAL(15,2)",
        "currency": "VARCHAR(3) DEFAULT 'USD'",
        "stage": "VARCHAR(100)",
        "probability": "INTEGER",
        "expected_close_date": "DATE",
        **TAIL,
    },
}
# One row for each record of Kafka. A record that could not be read has no event, type or organization, and
# its `event_timestamp` is when it arrived. `error_message` holds codes of reasons, never a value.
LOG = {
    "id": "UUID NOT NULL DEFAULT gen_random_uuid()",
    "event_id": "VARCHAR(255)",
    "event_type": "VARCHAR(50)",
    "topic": "VARCHAR(100) NOT NULL",
    "partition": "INTEGER NOT NULL",
    "offset": "BIGINT NOT NULL",
    "organization_id": "VARCHAR(100)",
    "event_timestamp": "TIMESTAMPTZ NOT NULL",
    "processed_at": "TIMESTAMPTZ DEFAULT NOW()",
    "processing_status": "VARCHAR(20) NOT NULL DEFAULT 'processed'"
    " CHECK (processing_status IN ('processed', 'skipped', 'failed'))",
    "error_message": "TEXT",
    "retry_count": "INTEGER DEFAULT 0",
    "ingestion_id": "UUID DEFAULT gen_random_uuid()",
    "metadata": "JSONB",
    "row_version": "BIGINT NOT NULL DEFAULT 0",
}
TABLES = {**STAGING, "crm_events_log": LOG}
KEYS = {
    **dict.fromkeys(STAGING, ("organization_id", "event_id", "event_timestamp")),
    "crm_events_log": ("event_timestamp", "topic", "partition", "offset"),
}
INDEXED = {
    "crm_leads_staging": "lead_id",
    "crm_contacts_staging": "contact_id",
    "crm_opportunities_staging": "opportunity_id",
    "crm_events_log": "event_id",
}
BY_THE_DATABASE = ("processed_at",)
STAGED_BESIDES = ("tenant_id", "source_topic", "source_partition", "source_offset")
# Personal, and so not in the masked views. An opportunity is often called by its customer; `assigned_to` is
# who sells.
OMITTED = ("first_name", "last_name", "email", "phone", "name", "assigned_to", "metadata")

# By `event_id` alone, too: is_event_processed may be asked without an organization.
EVENT_IDS = """
CREATE TABLE analytics.crm_event_ids (
  organization_id VARCHAR(100) NOT NULL,
  event_id VARCHAR(255) NOT NULL,
  event_timestamp TIMESTAMPTZ NOT NULL,
  topic VARCHAR(100) NOT NULL,
  partition INTEGER NOT NULL,
  "offset" BIGINT NOT NULL,
  processed_at TIMESTAMPTZ DEFAULT NOW(),
  PRIMARY KEY (organization_id, event_id)
);
CREATE INDEX idx_crm_event_ids_event ON analytics.crm_event_ids (event_id);
"""
# With an organization only its own events count. Runs as the owner: the API may not read the table.
IS_PROCESSED = """
CREATE FUNCTION analytics.is_event_processed(p_event_id text, p_organization_id text DEFAULT NULL)
RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
    SELECT FROM analytics.crm_event_ids
    WHERE event_id = p_event_id AND (p_organization_id IS NULL OR organization_id = p_organization_id)
  )
$$;
"""
# The partition's name; the one place that says which tables and months there may be. Any day stands for its
# month.
PARTITION_NAME = f"""
CREATE FUNCTION analytics.partition_name(p_table text, p_month date) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  this_month CONSTANT timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
BEGIN
  IF array_position(ARRAY{list(TABLES)}, p_table) IS NULL THEN
    RAISE EXCEPTION 'no partitioned table of analytics: %', quote_nullable(p_table)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF p_month IS NULL OR p_month < '2000-01-01' OR p_month >= this_month + interval '14 months' THEN
    RAISE EXCEPTION 'no month from 2000-01 to 13 months ahead: %', quote_nullable(p_month)
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN p_table || to_char(p_month::timestamp, '"_y"YYYY"m"MM');
END
$$;
"""
# Attached, and not made by PARTITION OF, which would wait for everyone who writes to or reads from the table.
# The second look is a query, so that its snapshot is newer than the lock.
ENSURE = """
CREATE FUNCTION analytics.ensure_partition(p_table text, p_month date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  made CONSTANT text := analytics.partition_name(p_table, p_month);
  parent CONSTANT regclass := format('analytics.%I', p_table)::regclass;
  since CONSTANT timestamp := date_trunc('month', p_month::timestamp);
  midnight CONSTANT text := 'YYYY-MM-DD "00:00+00"';
BEGIN
  IF to_regclass(format('analytics.%I', made)) IS NOT NULL THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(parent::oid::bigint);
  IF EXISTS (SELECT FROM pg_class WHERE relnamespace = 'analytics'::regnamespace AND relname = made) THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE analytics.%I (LIKE %s INCLUDING ALL)', made, parent);
  EXECUTE format(
    'ALTER TABLE %s ATTACH PARTITION analytics.%I FOR VALUES FROM (%L) TO (%L)',
    parent, made, to_char(since, midnight), to_char(since + interval '1 month', midnight)
  );
  RETURN true;
END
$$;
"""
# Table by table, so that two who make months at once wait for each other, and never in a circle.
ENSURE_AHEAD = f"""
CREATE FUNCTION analytics.ensure_partitions_ahead(p_months integer DEFAULT 3) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  name text;
  made integer := 0;
BEGIN
  FOREACH name IN ARRAY ARRAY{list(TABLES)} LOOP
    FOR ahead IN 0..p_months LOOP
      IF analytics.ensure_partition(
        name, (date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead))::date
      ) THEN
        made := made + 1;
      END IF;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;
"""
# Names of partitions are in the order of their months. The table is locked before its parts, as those who
# write do it.
DROP_BEFORE = """
CREATE FUNCTION analytics.drop_partitions_before(p_table text, p_month date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  kept CONSTANT text := analytics.partition_name(p_table, p_month);
  parent CONSTANT regclass := format('analytics.%I', p_table)::regclass;
  gone regclass;
  dropped integer := 0;
BEGIN
  EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', parent);
  FOR gone IN
    SELECT inhrelid::regclass FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = parent AND relname < kept ORDER BY relname
  LOOP
    EXECUTE format('DROP TABLE %s', gone);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END
$$;
"""
FUNCTIONS = (IS_PROCESSED, PARTITION_NAME, ENSURE, ENSURE_AHEAD, DROP_BEFORE)
# Partitions have no grants: whoever may use the table reaches them through it.
GRANTS = """
REVOKE ALL ON SCHEMA analytics FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA analytics FROM PUBLIC;
GRANT USAGE ON SCHEMA analytics TO headwater_writer, headwater_api, headwater_reader;
GRANT SELECT, INSERT, UPDATE, TRUNCATE ON analytics.crm_event_ids TO headwater_writer;
GRANT SELECT ON analytics.crm_events_log TO headwater_api;
GRANT EXECUTE ON FUNCTION analytics.is_event_processed TO headwater_writer, headwater_api;
GRANT EXECUTE ON FUNCTION analytics.ensure_partition, analytics.ensure_partitions_ahead TO headwater_writer;
GRANT EXECUTE ON FUNCTION analytics.drop_partitions_before TO headwater_owner;
"""


def upgrade() -> None:
    """Schema, tables, staging, masked views, functions, grants, the first months: one transaction."""
    op.execute("CREATE SCHEMA IF NOT EXISTS analytics")
    for name, columns in TABLES.items():
        _table(name, columns)
        _staging(name, columns)
    for name, columns in STAGING.items():
        _masked_view(name, columns)
    for part in (EVENT_IDS, *FUNCTIONS, GRANTS):
        op.execute(part)
    op.execute("SELECT analytics.ensure_partitions_ahead()")


def _table(name: str, columns: dict[str, str]) -> None:
    lines = ",\n  ".join(f'"{column}" {kind}' for column, kind in columns.items())
    key = ", ".join(f'"{column}"' for column in KEYS[name])
    op.execute(
        f"CREATE TABLE analytics.{name} (\n  {lines},\n  PRIMARY KEY ({key})\n)"
        " PARTITION BY RANGE (event_timestamp)"
    )
    op.execute(f"CREATE INDEX idx_{name} ON analytics.{name} (organization_id, {INDEXED[name]})")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, TRUNCATE ON analytics.{name} TO headwater_writer")


def _staging(name: str, columns: dict[str, str]) -> None:
    """As for leads: everything is text, and unlogged."""
    own = [column for column in columns if column not in BY_THE_DATABASE]
    names = dict.fromkeys([*own, *STAGED_BESIDES])
    texts = ", ".join(f'"{column}" TEXT' for column in names)
    op.execute(
        f"CREATE UNLOGGED TABLE staging.{name} "
        f"(n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, attempt UUID NOT NULL, {texts})"
    )
    op.execute(f"GRANT SELECT, INSERT, DELETE, TRUNCATE ON staging.{name} TO headwater_writer")
    op.execute(f"GRANT USAGE ON SEQUENCE staging.{name}_n_seq TO headwater_writer")


def _masked_view(name: str, columns: dict[str, str]) -> None:
    shown = ", ".join(column for column in columns if column not in OMITTED)
    masked = f"SELECT {shown} FROM analytics.{name}"  # noqa: S608 - names of this file only
    op.execute(f"CREATE VIEW analytics.{name}_masked WITH (security_barrier = true) AS {masked}")
    op.execute(f"GRANT SELECT ON analytics.{name}_masked TO headwater_reader")


def downgrade() -> None:
    """Refused: it would drop what was delivered."""
    raise NotImplementedError("a migration is never taken back: write the next one")
