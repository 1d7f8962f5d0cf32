"""CRM: staging is emptied without the ids of the wildcard's events.

Ids of `crm.events` are entered with the log, which is not run again when staging is. To empty all of
`crm_event_ids` forgot them for good. The writer may still delete no single id.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

# Runs as the owner: the writer may delete nothing there. Rows, and not the table: the log goes on entering
# its own meanwhile, and whoever asks whether an event was processed waits for nobody.
FORGET = """
CREATE FUNCTION analytics.forget_staged_ids() RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  DELETE FROM analytics.crm_event_ids WHERE topic <> 'crm.events'
$$;
REVOKE ALL ON FUNCTION analytics.forget_staged_ids FROM PUBLIC;
GRANT EXECUTE ON FUNCTION analytics.forget_staged_ids TO headwater_writer;
REVOKE TRUNCATE ON analytics.crm_event_ids FROM headwater_writer;
"""


def upgrade() -> None:
    """The function and its grant, in place of the right to empty the table."""
    op.execute(FORGET)


def downgrade() -> None:
    """Refused: it would lose ids."""
    raise NotImplementedError("a migration is never taken back: write the next one")
