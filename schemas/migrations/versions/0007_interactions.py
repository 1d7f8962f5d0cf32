"""Agent turns, frontend analytics, session KPIs and billing usage, their staging twins and masked views.

Columns are the architecture document's DDL. What it lacked: the tenant, first in every key, for ids are made
by producers; and the version that keeps old from overwriting new. Usage is billed by account, so there the
tenant is called that.
"""

from alembic import op

revision = "0007"
down_revision = "0006"

TABLES = {
    "agent_turns": {
        "tenant_id": "VARCHAR(64) NOT NULL",
        "session_id": "TEXT NOT NULL",
        "turn_id": "TEXT NOT NULL",
        "user_id": "TEXT",
        "channel": "TEXT DEFAULT 'text'",
        "model": "TEXT",
        "tokens_in": "INT",
        "tokens_out": "INT",
        "latency_ms": "DOUBLE PRECISION",
        "response_text": "TEXT",
        "ts_ms": "BIGINT",
        "row_version": "BIGINT NOT NULL",
    },
    "frontend_analytics": {
        "tenant_id": "VARCHAR(64) NOT NULL",
        "event_id": "TEXT NOT NULL",
        "session_id": "TEXT",
        "user_id": "TEXT",
        "event_type": "TEXT",
        "page_url": "TEXT",
        "widget_id": "TEXT",
        "interaction_type": "TEXT",
        "ts_ms": "BIGINT",
        "metadata": "JSONB",
        "row_version": "BIGINT NOT NULL",
    },
    "session_kpis": {
        "tenant_id": "VARCHAR(64) NOT NULL",
        "session_id": "TEXT NOT NULL",
        "user_id": "TEXT",
        "channel": "TEXT",
        "turns": "INT",
        "tokens_in": "BIGINT",
        "tokens_out": "BIGINT",
        "avg_latency_ms": "DOUBLE PRECISION",
        "started_at": "TIMESTAMPTZ",
        "ended_at": "TIMESTAMPTZ",
        "updated_at": "TIMESTAMPTZ DEFAULT NOW()",
        "row_version": "BIGINT NOT NULL",
    },
    "billing_usage": {
        "account_id": "VARCHAR(64) NOT NULL",
        "metric": "TEXT NOT NULL",
        "window_start": "TIMESTAMPTZ NOT NULL",
        "window_end": "TIMESTAMPTZ NOT NULL",
        "quantity": "NUMERIC(20,6) NOT NULL",
        "events": "BIGINT NOT NULL",
        "updated_at": "TIMESTAMPTZ DEFAULT NOW()",
        "row_version": "BIGINT NOT NULL",
    },
}
KEYS = {
    "agent_turns": ("tenant_id", "session_id", "turn_id"),
    "frontend_analytics": ("tenant_id", "event_id"),
    "session_kpis": ("tenant_id", "session_id"),
    "billing_usage": ("account_id", "metric", "window_start"),
}
BY_THE_DATABASE = ("updated_at",)
STAGED_BESIDES = ("tenant_id", "source_topic", "source_partition", "source_offset")
# Personal, and so not in the masked views.
OMITTED = {
    "agent_turns": ("user_id", "response_text"),
    "frontend_analytics": ("user_id", "page_url", "metadata"),
    "session_kpis": ("user_id",),
    "billing_usage": (),
}
# Of gold, from which rows may go.
DELETED_FROM = ("session_kpis", "billing_usage")


def upgrade() -> None:
    """Tables, staging, masked views, grants: one transaction."""
    for name, columns in TABLES.items():
        lines = ",\n  ".join(f"{column} {kind}" for column, kind in columns.items())
        key = ", ".join(KEYS[name])
        op.execute(f"CREATE TABLE public.{name} (\n  {lines},\n  PRIMARY KEY ({key})\n)")
        _staging(name, columns)
        shown = ", ".join(column for column in columns if column not in OMITTED[name])
        masked = f"SELECT {shown} FROM public.{name}"  # noqa: S608 - names of this file only
        op.execute(f"CREATE VIEW public.{name}_masked WITH (security_barrier = true) AS {masked}")
        _grants(name)
    op.execute("CREATE INDEX idx_agent_turns_ts ON public.agent_turns (tenant_id, ts_ms)")
    op.execute("CREATE INDEX idx_session_kpis_started ON public.session_kpis (tenant_id, started_at)")


def _staging(name: str, columns: dict[str, str]) -> None:
    """As for leads: everything is text, and unlogged."""
    own = [column for column in columns if column not in BY_THE_DATABASE]
    names = dict.fromkeys([*own, *STAGED_BESIDES])
    texts = ", ".join(f"{column} TEXT" for column in names)
    op.execute(
        f"CREATE UNLOGGED TABLE staging.{name} "
        f"(n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, attempt UUID NOT NULL, {texts})"
    )


def _grants(name: str) -> None:
    delete = ", DELETE" if name in DELETED_FROM else ""
    op.execute(f"GRANT SELECT, INSERT, UPDATE, TRUNCATE{delete} ON public.{name} TO headwater_writer")
    op.execute(f"GRANT SELECT, INSERT, DELETE, TRUNCATE ON staging.{name} TO headwater_writer")
    op.execute(f"GRANT USAGE ON SEQUENCE staging.{name}_n_seq TO headwater_writer")
    op.execute(f"GRANT SELECT ON public.{name}_masked TO headwater_reader")


def downgrade() -> None:
    """Refused: it would drop what was delivered."""
    raise NotImplementedError("a migration is never taken back: write the next one")
