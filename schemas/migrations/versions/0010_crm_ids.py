"""CRM: an id that was processed is told by topic, too.

An event's id is unique in its stream. A CRM that sends each event to its own topic and to the wildcard has it
processed in both; told once, the second would find the id there and stay out of its staging table.
"""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """The topic becomes part of the key."""
    op.execute(
        "ALTER TABLE analytics.crm_event_ids DROP CONSTRAINT crm_event_ids_pkey,"
        " ADD PRIMARY KEY (organization_id, event_id, topic)"
    )


def downgrade() -> None:
    """Refused: it would lose ids."""
    raise NotImplementedError("a migration is never taken back: write the next one")
