"""Imports: a job whose rows are on their way to Delta only goes on, and a file that is gone is known to be.

What Delta was given nothing takes back: such a job is neither cancelled nor given up, and does the rest.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

# `appending_at`: since when the job may have rows in Delta. `file_gone_at`: when its file was deleted.
COLUMNS = """
ALTER TABLE public.ingestion_jobs ADD COLUMN appending_at TIMESTAMPTZ, ADD COLUMN file_gone_at TIMESTAMPTZ;
CREATE INDEX ingestion_jobs_with_file ON public.ingestion_jobs (status, finished_at)
  WHERE finished_at IS NOT NULL AND file_gone_at IS NULL;
"""


def upgrade() -> None:
    """Two columns, and an index of the files that may go."""
    op.execute(COLUMNS)


def downgrade() -> None:
    """Refused: jobs could end that have rows in Delta."""
    raise NotImplementedError("a migration is never taken back: write the next one")
