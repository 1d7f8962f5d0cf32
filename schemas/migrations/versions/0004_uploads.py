"""Uploaded files: the queue of their imports, the rows that were refused, the rows that were taken.

A job is claimed by a lease; `attempts` tells one claim from the next, so it never goes back.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

# `file_label`: what the client called the file, cleaned; nothing is opened by it. `options`: how the file is
# to be read, as the client stated it. `released`: claims that were given back unfinished, which count against
# nobody. `lettered_at`: when a failed job's dead letter was written.
JOBS = """
CREATE TABLE public.ingestion_jobs (
  id UUID PRIMARY KEY,
  tenant_id VARCHAR(64) NOT NULL,
  dataset VARCHAR(63) NOT NULL,
  status VARCHAR(24) NOT NULL DEFAULT 'PENDING' CHECK (status IN
    ('PENDING', 'PROCESSING', 'COMPLETED', 'COMPLETED_WITH_ERRORS', 'FAILED', 'CANCELLED')),
  attempts INT NOT NULL DEFAULT 0,
  released INT NOT NULL DEFAULT 0,
  next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  lease_until TIMESTAMPTZ,
  worker VARCHAR(128),
  storage_key VARCHAR(128) NOT NULL,
  file_label VARCHAR(255),
  format VARCHAR(16) NOT NULL,
  options JSONB NOT NULL DEFAULT '{}',
  bytes BIGINT NOT NULL,
  sha256 CHAR(64) NOT NULL,
  rows_read BIGINT NOT NULL DEFAULT 0,
  rows_valid BIGINT NOT NULL DEFAULT 0,
  rows_invalid BIGINT NOT NULL DEFAULT 0,
  rows_inserted BIGINT NOT NULL DEFAULT 0,
  rows_updated BIGINT NOT NULL DEFAULT 0,
  rows_unchanged BIGINT NOT NULL DEFAULT 0,
  error VARCHAR(64),
  timings JSONB NOT NULL DEFAULT '{}',
  cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
  lettered_at TIMESTAMPTZ,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  started_at TIMESTAMPTZ,
  finished_at TIMESTAMPTZ,
  CONSTRAINT ingestion_jobs_lease CHECK ((status = 'PROCESSING') = (lease_until IS NOT NULL)),
  CONSTRAINT ingestion_jobs_end CHECK ((status IN ('PENDING', 'PROCESSING')) = (finished_at IS NULL))
);
CREATE INDEX ingestion_jobs_due ON public.ingestion_jobs (coalesce(lease_until, next_attempt_at), created_at)
  WHERE status IN ('PENDING', 'PROCESSING');
CREATE INDEX ingestion_jobs_same_file ON public.ingestion_jobs (tenant_id, dataset, sha256)
  WHERE status = 'COMPLETED';
CREATE INDEX ingestion_jobs_newest ON public.ingestion_jobs (tenant_id, created_at DESC, id DESC);
CREATE INDEX ingestion_jobs_by_status ON public.ingestion_jobs (tenant_id, status, created_at DESC, id DESC);
CREATE INDEX ingestion_jobs_unlettered ON public.ingestion_jobs (finished_at)
  WHERE status = 'FAILED' AND lettered_at IS NULL;
"""
# `column_name` is null where a row as a whole is wrong. `message` holds no value; `raw_row` does.
ERRORS = """
CREATE TABLE public.validation_errors (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id UUID NOT NULL REFERENCES public.ingestion_jobs (id) ON DELETE CASCADE,
  line BIGINT NOT NULL,
  column_name VARCHAR(255),
  code VARCHAR(64) NOT NULL,
  message VARCHAR(500) NOT NULL,
  raw_row TEXT,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX validation_errors_of_job ON public.validation_errors (job_id, id);
"""
# `content_hash`: SHA-256 of the normalised row. `last_job` is what counts a row once for each job, however
# often the job writes it.
ROWS = """
CREATE TABLE public.ingested_data (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_id VARCHAR(64) NOT NULL,
  dataset VARCHAR(63) NOT NULL,
  content_hash CHAR(64) NOT NULL,
  data JSONB NOT NULL,
  first_job UUID NOT NULL,
  last_job UUID NOT NULL,
  seen_count BIGINT NOT NULL DEFAULT 1,
  row_version BIGINT NOT NULL,
  created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
  CONSTRAINT ingested_data_content_key UNIQUE (tenant_id, dataset, content_hash)
);
"""
# What analysts see: no name of a file, no hash by which one could be guessed, no place, no row.
VIEW = """
CREATE VIEW public.ingestion_jobs_masked WITH (security_barrier = true) AS
SELECT id, tenant_id, dataset, status, attempts, format, bytes, rows_read, rows_valid, rows_invalid,
  rows_inserted, rows_updated, rows_unchanged, error, timings, created_at, started_at, finished_at
FROM public.ingestion_jobs;
"""
# The API enters jobs, reads them and asks for their end; everything else is the worker's.
GRANTS = """
GRANT SELECT, INSERT ON public.ingestion_jobs TO headwater_api;
GRANT UPDATE (status, cancel_requested, finished_at) ON public.ingestion_jobs TO headwater_api;
GRANT SELECT ON public.validation_errors TO headwater_api;
GRANT SELECT, INSERT, UPDATE ON public.ingestion_jobs TO headwater_writer;
GRANT SELECT, INSERT, DELETE ON public.validation_errors TO headwater_writer;
GRANT SELECT, INSERT, UPDATE ON public.ingested_data TO headwater_writer;
GRANT SELECT ON public.ingestion_jobs_masked TO headwater_reader;
"""


def upgrade() -> None:
    """Tables, indexes, view, grants."""
    for part in (JOBS, ERRORS, ROWS, VIEW, GRANTS):
        op.execute(part)


def downgrade() -> None:
    """Refused: it would drop what was uploaded."""
    raise NotImplementedError("a migration is never taken back: write the next one")
