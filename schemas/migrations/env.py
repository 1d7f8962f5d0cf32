"""Alembic's entry: runs the revisions on the connection that schemas/migrate.py opened. Online only."""

from alembic import context

from headwater.errors import SetupError


def _online() -> None:
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        target_metadata=None,
        version_table_schema="public",
        on_version_apply=attributes["on_apply"],
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SetupError("migrations run against a server only: `python -m jobs migrate`")
_online()
