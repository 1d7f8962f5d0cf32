"""The table `leads`, its staging twin and what each role may do with them.

Columns, types and indexes are the runbook's DDL. What it lacked: the tenant (an idempotency key is unique
within its tenant only), the version that keeps old from overwriting new, and what the user agent tells.
"""

from alembic import op

revision = "0001"
down_revision = None

LEADS = {
    "id": "UUID PRIMARY KEY DEFAULT gen_random_uuid()",
    "event_id": "UUID NOT NULL",
    "tenant_id": "VARCHAR(64) NOT NULL",
    "idempotency_key": "VARCHAR(255) NOT NULL",
    "source": "VARCHAR(50) NOT NULL",
    "received_at": "TIMESTAMPTZ NOT NULL",
    "created_at": "TIMESTAMPTZ DEFAULT NOW()",
    "updated_at": "TIMESTAMPTZ DEFAULT NOW()",
    "first_name": "VARCHAR(255)",
    "last_name": "VARCHAR(255)",
    "email": "VARCHAR(255) NOT NULL",
    "phone": "VARCHAR(50)",
    "message": "TEXT",
    "submission_type": "VARCHAR(100)",
    "consent": "BOOLEAN DEFAULT FALSE",
    "ip_address": "INET",
    "user_agent": "TEXT",
    "geo_country": "VARCHAR(100)",
    "geo_city": "VARCHAR(100)",
    "device": "VARCHAR(100)",
    "browser": "VARCHAR(100)",
    "os": "VARCHAR(100)",
    "utm_source": "VARCHAR(255)",
    "utm_medium": "VARCHAR(255)",
    "utm_campaign": "VARCHAR(255)",
    "utm_content": "VARCHAR(255)",
    "utm_term": "VARCHAR(255)",
    "metadata": "JSONB",
    "row_version": "BIGINT NOT NULL",
}
BY_THE_DATABASE = ("created_at", "updated_at")
LINEAGE = ("source_topic", "source_partition", "source_offset")
# Personal columns are masked, or not in the view at all (caller-made keys and metadata are personal too).
MASKED = {
    "email": "'***@' || split_part(email, '@', 2)",
    "phone": "'***' || right(phone, 2)",
    "ip_address": "network(set_masklen(ip_address, CASE family(ip_address) WHEN 4 THEN 16 ELSE 32 END))",
}
OMITTED = ("idempotency_key", "first_name", "last_name", "message", "user_agent", "metadata")
INDEXED = ("email", "received_at", "source")

GRANTS = """
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON SCHEMA staging FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA staging FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO headwater_writer, headwater_api, headwater_reader;
GRANT USAGE ON SCHEMA staging TO headwater_writer;
GRANT SELECT, INSERT, UPDATE, TRUNCATE ON public.leads TO headwater_writer;
GRANT SELECT, INSERT, DELETE, TRUNCATE ON staging.leads TO headwater_writer;
GRANT USAGE ON SEQUENCE staging.leads_n_seq TO headwater_writer;
GRANT SELECT ON public.leads_masked TO headwater_reader;
"""


def upgrade() -> None:
    """Table, indexes, staging, masked view, grants: one transaction."""
    columns = ",\n  ".join(f"{name} {kind}" for name, kind in LEADS.items())
    op.execute(
        f"CREATE TABLE public.leads (\n  {columns},\n"
        "  CONSTRAINT leads_tenant_id_idempotency_key_key UNIQUE (tenant_id, idempotency_key)\n)"
    )
    for name in INDEXED:
        op.execute(f"CREATE INDEX idx_leads_{name} ON public.leads ({name})")
    _staging()
    _masked_view()
    op.execute(GRANTS)


def _staging() -> None:
    """Everything is text, so that a COPY cannot fail by a row's value; unlogged: a crash may lose it.

    The search for bad rows halves ranges of `n`, so it is indexed.
    """
    names = [name for name in LEADS if name not in BY_THE_DATABASE] + list(LINEAGE)
    columns = ", ".join(f"{name} TEXT" for name in names)
    op.execute("CREATE SCHEMA IF NOT EXISTS staging")
    op.execute(
        "CREATE UNLOGGED TABLE staging.leads "
        f"(n BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, attempt UUID NOT NULL, {columns})"
    )


def _masked_view() -> None:
    """What analysts see. The barrier keeps a cheap function in their WHERE from seeing the hidden values."""
    columns = ", ".join(_shown(name) for name in LEADS if name not in OMITTED)
    shown = f"SELECT {columns} FROM public.leads"  # noqa: S608 - names and expressions of this file only
    op.execute(f"CREATE VIEW public.leads_masked WITH (security_barrier = true) AS {shown}")


def _shown(name: str) -> str:
    return f"{MASKED[name]} AS {name}" if name in MASKED else name


def downgrade() -> None:
    """Refused: it would drop the leads."""
    raise NotImplementedError("a migration is never taken back: write the next one")
