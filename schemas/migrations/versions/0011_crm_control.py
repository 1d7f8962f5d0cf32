"""CRM control: what a person wants of a domain, what its queries say of themselves, records to send again,
exact counts of the log, and who has asked for what.

The API writes wishes and reads what they have come to; the jobs read the wishes. Neither may more: the API
does not read the log, it asks one function about one record of one organization, and what it has entered in
`control_audit` nobody changes.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

# `changed_by` is as control_audit's actor; null: nobody has changed it.
WISHES = """
CREATE TABLE analytics.domain_control (
  domain VARCHAR(32) PRIMARY KEY,
  desired VARCHAR(8) NOT NULL CHECK (desired IN ('running', 'stopped')),
  changed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  changed_by TEXT
);
INSERT INTO analytics.domain_control (domain, desired) VALUES ('crm', 'running');
"""
# `lag` counts records of Kafka, or files of the lake, that are not taken yet.
STATES = """
CREATE TABLE analytics.query_states (
  query VARCHAR(128) PRIMARY KEY,
  domain VARCHAR(32) NOT NULL,
  state VARCHAR(16) NOT NULL,
  lag BIGINT,
  last_batch_at TIMESTAMPTZ,
  batch_ms_p95 DOUBLE PRECISION,
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
"""
ENQUEUED = """
CREATE TABLE analytics.crm_enqueued (
  job_id UUID PRIMARY KEY,
  tenant_id VARCHAR(100) NOT NULL,
  topic VARCHAR(100) NOT NULL,
  partition INTEGER NOT NULL,
  "offset" BIGINT NOT NULL,
  due_at TIMESTAMPTZ NOT NULL,
  status VARCHAR(8) NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'done', 'failed')),
  error VARCHAR(64),
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  done_at TIMESTAMPTZ
);
CREATE INDEX idx_crm_enqueued_due ON analytics.crm_enqueued (due_at, job_id) WHERE status = 'waiting';
CREATE INDEX idx_crm_enqueued_waiting ON analytics.crm_enqueued (tenant_id) WHERE status = 'waiting';
CREATE INDEX idx_crm_enqueued_done ON analytics.crm_enqueued (done_at) WHERE status <> 'waiting';
"""
# Added up in the statement that enters rows into the log, so that nobody counts the log. What nobody owns
# (a record that could not be read) is not in it.
COUNTS = """
CREATE TABLE analytics.crm_event_counts (
  organization_id VARCHAR(100) NOT NULL,
  processing_status VARCHAR(20) NOT NULL,
  events BIGINT NOT NULL,
  PRIMARY KEY (organization_id, processing_status)
);
INSERT INTO analytics.crm_event_counts
  SELECT organization_id, processing_status, count(*) FROM analytics.crm_events_log
  WHERE organization_id IS NOT NULL GROUP BY organization_id, processing_status;
"""
# `actor` is a key's id or a token's subject; `result` is ok, or the code of the refusal.
AUDIT = """
CREATE TABLE analytics.control_audit (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
  actor TEXT NOT NULL,
  tenant_id VARCHAR(100) NOT NULL,
  action VARCHAR(32) NOT NULL,
  detail JSONB NOT NULL DEFAULT '{}',
  remote_addr INET,
  request_id VARCHAR(64) NOT NULL,
  result VARCHAR(64) NOT NULL
);
"""
# Also against the owner. ALWAYS: session_replication_role does not turn it off.
KEPT = """
CREATE FUNCTION analytics.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION '%.% is append-only: % is refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER control_audit_is_append_only
  BEFORE UPDATE OR DELETE OR TRUNCATE ON analytics.control_audit
  FOR EACH STATEMENT EXECUTE FUNCTION analytics.refuse_change();
ALTER TABLE analytics.control_audit ENABLE ALWAYS TRIGGER control_audit_is_append_only;
"""
# Runs as the owner: the API learns of a record only whether it is this organization's. No defaults, no null
# that would stand for all.
IS_LOGGED = """
CREATE INDEX idx_crm_events_log_place ON analytics.crm_events_log (topic, partition, "offset");
CREATE FUNCTION analytics.is_record_logged(
  p_organization_id text, p_topic text, p_partition integer, p_offset bigint
) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (
    SELECT FROM analytics.crm_events_log
    WHERE topic = p_topic AND partition = p_partition AND "offset" = p_offset
      AND organization_id = p_organization_id
  )
$$;
"""
GRANTS = """
REVOKE ALL ON FUNCTION analytics.is_record_logged, analytics.refuse_change FROM PUBLIC;
REVOKE ALL ON analytics.crm_events_log FROM headwater_api;

GRANT EXECUTE ON FUNCTION analytics.is_record_logged TO headwater_api;
GRANT SELECT, UPDATE (desired, changed_at, changed_by) ON analytics.domain_control TO headwater_api;
GRANT SELECT ON analytics.query_states, analytics.crm_event_counts TO headwater_api;
GRANT SELECT (tenant_id, status), INSERT (job_id, tenant_id, topic, partition, "offset", due_at)
  ON analytics.crm_enqueued TO headwater_api;
GRANT INSERT (actor, tenant_id, action, detail, remote_addr, request_id, result)
  ON analytics.control_audit TO headwater_api;

GRANT SELECT ON analytics.domain_control TO headwater_writer;
GRANT SELECT, INSERT, UPDATE ON analytics.query_states TO headwater_writer;
GRANT SELECT, DELETE, UPDATE (status, error, done_at) ON analytics.crm_enqueued TO headwater_writer;
GRANT SELECT, INSERT, UPDATE, TRUNCATE ON analytics.crm_event_counts TO headwater_writer;
"""


def upgrade() -> None:
    """Tables, the counts so far, the trigger, the function, grants: one transaction."""
    for part in (WISHES, STATES, ENQUEUED, COUNTS, AUDIT, KEPT, IS_LOGGED, GRANTS):
        op.execute(part)


def downgrade() -> None:
    """Refused: it would drop who has asked for what."""
    raise NotImplementedError("a migration is never taken back: write the next one")
