"""Replays of dead letters: what somebody asks for, what a job says would come of it, and what came of it.

A replay is `requested`, then `planned` by a job, which does nothing else yet; somebody approves the plan, and
a job does it: `applied`, or `refused` where the data has moved since. `failed`: it could not be done.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

# `tenant_id` null: of all tenants, asked on the command line. `wanted` is the filter, `patch` an RFC 6902
# document, `digest` is of all that the plan depends on. Before the first record is sent, `letters` are the
# ids of those that will be, and `starts` Kafka's ends by topic-partition: what was sent is behind them.
REPLAYS = """
CREATE TABLE analytics.replays (
  replay_id UUID PRIMARY KEY,
  tenant_id VARCHAR(100),
  author TEXT NOT NULL,
  why VARCHAR(500) NOT NULL,
  wanted JSONB NOT NULL,
  patch JSONB,
  patch_sha256 CHAR(64),
  status VARCHAR(10) NOT NULL DEFAULT 'requested'
    CHECK (status IN ('requested', 'planned', 'approved', 'applied', 'refused', 'failed')),
  plan JSONB,
  digest CHAR(64),
  approved_by TEXT,
  letters JSONB,
  starts JSONB,
  result JSONB,
  error TEXT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  planned_at TIMESTAMPTZ,
  approved_at TIMESTAMPTZ,
  ended_at TIMESTAMPTZ,
  CHECK ((patch IS NULL) = (patch_sha256 IS NULL)),
  CHECK (status NOT IN ('planned', 'approved', 'applied') OR (plan IS NOT NULL AND digest IS NOT NULL))
);
CREATE INDEX idx_replays_due ON analytics.replays (created_at) WHERE status IN ('requested', 'approved');
CREATE INDEX idx_replays_of_tenant ON analytics.replays (tenant_id, created_at DESC);
"""
# Runs as the owner: the API approves plans of one tenant, and changes nothing else of them.
APPROVE = """
CREATE FUNCTION analytics.approve_replay(p_replay_id uuid, p_tenant_id text, p_by text)
RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  WITH approved AS (
    UPDATE analytics.replays SET status = 'approved', approved_by = p_by, approved_at = now()
    WHERE replay_id = p_replay_id AND tenant_id = p_tenant_id AND status = 'planned' RETURNING 1
  ) SELECT EXISTS (SELECT FROM approved)
$$;
"""
GRANTS = """
REVOKE ALL ON FUNCTION analytics.approve_replay FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.approve_replay TO headwater_api;
GRANT SELECT, INSERT (replay_id, tenant_id, author, why, wanted, patch, patch_sha256)
  ON analytics.replays TO headwater_api;
GRANT SELECT, INSERT, UPDATE ON analytics.replays TO headwater_writer;
"""


def upgrade() -> None:
    """The table, the function, grants: one transaction."""
    for part in (REPLAYS, APPROVE, GRANTS):
        op.execute(part)


def downgrade() -> None:
    """Refused: it would drop who has sent what again."""
    raise NotImplementedError("a migration is never taken back: write the next one")
