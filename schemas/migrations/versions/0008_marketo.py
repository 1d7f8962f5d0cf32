"""Marketo: up to where each feed of an account's activities has reached Kafka."""

from alembic import op

revision = "0008"
down_revision = "0007"

# `next_page_token`: Marketo's, of the page that comes next; null: it is asked for by `since`, the time of the
# newest activity that was read, or where the feed is to begin.
TABLE = """
CREATE TABLE public.marketo_positions (
  account_id VARCHAR(64) NOT NULL,
  feed VARCHAR(16) NOT NULL CHECK (feed IN ('changes', 'deletions')),
  since TIMESTAMPTZ NOT NULL,
  next_page_token TEXT,
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  PRIMARY KEY (account_id, feed)
);
GRANT SELECT, INSERT, UPDATE ON public.marketo_positions TO headwater_writer;
"""


def upgrade() -> None:
    """The table and its grants."""
    op.execute(TABLE)


def downgrade() -> None:
    """Refused: nobody would know how far activities were read."""
    raise NotImplementedError("a migration is never taken back: write the next one")
