"""Deliveries to connectors: one row per connector and event, from its announcement to its end.

It lies beside the outbox, so that taking an announcement and moving on is one transaction. Ids, places and
codes only: the payload is made from `leads` when it is sent.
"""

from alembic import op

revision = "0003"
down_revision = "0002"

# `position`: the outbox's seq up to which announcements were taken.
# `pending_since`: when the patience began; a retry by hand begins it anew. `next_attempt_at` is also the end
# of the lease of whoever is sending; `attempts` tells one lease from the next.
TABLES = """
CREATE TABLE public.webhook_connectors (
  connector VARCHAR(32) PRIMARY KEY,
  position BIGINT NOT NULL,
  enabled_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE TABLE public.webhook_deliveries (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  connector VARCHAR(32) NOT NULL,
  tenant_id VARCHAR(64) NOT NULL,
  lead_id UUID NOT NULL,
  event_id UUID NOT NULL,
  row_version BIGINT NOT NULL,
  source_topic TEXT,
  source_partition INT,
  source_offset BIGINT,
  status VARCHAR(16) NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead', 'gone')),
  attempts INT NOT NULL DEFAULT 0,
  next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  pending_since TIMESTAMPTZ NOT NULL DEFAULT now(),
  last_status INT,
  last_error VARCHAR(32),
  dead_reason VARCHAR(32),
  lettered_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  delivered_at TIMESTAMPTZ,
  CONSTRAINT webhook_deliveries_event_key UNIQUE (connector, tenant_id, event_id)
);
CREATE INDEX webhook_deliveries_due ON public.webhook_deliveries (connector, next_attempt_at, id)
  WHERE status = 'pending';
CREATE INDEX webhook_deliveries_unlettered ON public.webhook_deliveries (connector, id)
  WHERE status = 'dead' AND lettered_at IS NULL;
GRANT SELECT, INSERT, UPDATE ON public.webhook_connectors, public.webhook_deliveries TO headwater_writer;
"""


def upgrade() -> None:
    """Tables, indexes, grants."""
    op.execute(TABLES)


def downgrade() -> None:
    """Refused: what was delivered would be delivered again."""
    raise NotImplementedError("a migration is never taken back: write the next one")
