"""The outbox of `leads`: since when a waiting row's lead has been missing.

Patience was measured by `created_at`: when `leads` was emptied to be written again, all that had waited for
long was given up within seconds.
"""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """A column, null until the relay looks and does not find the lead."""
    op.execute("ALTER TABLE public.lead_outbox ADD COLUMN missing_since TIMESTAMPTZ")


def downgrade() -> None:
    """Refused: patience would begin anew."""
    raise NotImplementedError("a migration is never taken back: write the next one")
