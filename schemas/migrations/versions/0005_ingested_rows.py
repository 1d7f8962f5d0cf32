"""Rows of files: the hash as 32 bytes, and staging tables of the writer's own.

As 64 letters the hash made rows and their index a third larger, and comparing slower. Each import copies its
rows to a staging table that is its own, and drops it: no import clears up behind another.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

HASH = """
ALTER TABLE public.ingested_data
  ALTER COLUMN content_hash TYPE BYTEA USING decode(content_hash, 'hex'),
  ADD CONSTRAINT ingested_data_content_hash_length CHECK (octet_length(content_hash) = 32);
"""
GRANTS = "GRANT CREATE ON SCHEMA staging TO headwater_writer"


def upgrade() -> None:
    """The column's type, and the right to make tables in `staging`, which only the writer can enter."""
    for part in (HASH, GRANTS):
        op.execute(part)


def downgrade() -> None:
    """Refused: imports would have no place to stage their rows."""
    raise NotImplementedError("a migration is never taken back: write the next one")
