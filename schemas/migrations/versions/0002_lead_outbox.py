"""The outbox of `leads`: one row for each version of a lead that was captured, in the order of capture.

`seq` grows in the order of commits, because the sink takes its turns by a lock. Rows are ids and places only,
so that they may stay when a lead is erased.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

# lead_id points at leads.id without a foreign key: a rebuild empties leads and writes them again.
OUTBOX = """
CREATE TABLE public.lead_outbox (
  seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id VARCHAR(64) NOT NULL,
  lead_id UUID NOT NULL,
  event_id UUID NOT NULL,
  row_version BIGINT NOT NULL,
  source_topic TEXT,
  source_partition INT,
  source_offset BIGINT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  relayed_at TIMESTAMPTZ,
  CONSTRAINT lead_outbox_lead_id_row_version_key UNIQUE (lead_id, row_version)
);
CREATE INDEX lead_outbox_unrelayed ON public.lead_outbox (seq) WHERE relayed_at IS NULL;
GRANT SELECT, INSERT, UPDATE ON public.lead_outbox TO headwater_writer;
"""
# Leads from before count as relayed: an upgrade announces nothing old. Their place in Kafka is not known.
HISTORY = """
INSERT INTO public.lead_outbox (tenant_id, lead_id, event_id, row_version, created_at, relayed_at)
SELECT tenant_id, id, event_id, row_version, coalesce(created_at, now()), now()
FROM public.leads ORDER BY created_at, id
"""


def upgrade() -> None:
    """Table, index, grants, and a row for each lead that is there."""
    op.execute(OUTBOX)
    op.execute(HISTORY)


def downgrade() -> None:
    """Refused: what was announced would be announced again."""
    raise NotImplementedError("a migration is never taken back: write the next one")
