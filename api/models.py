"""The answers, as the OpenAPI document shows them."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

Status = Literal["PENDING", "PROCESSING", "COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"]


class FaultModel(BaseModel):
    """One thing that is wrong with the body."""

    field: str = Field(description="JSON Pointer into the request's body; empty: the whole of it.")
    code: str = Field(examples=["missing_required", "type_mismatch", "rule:max_length"])
    message: str = Field(description="What is wrong; never the value.")


class ProblemModel(BaseModel):
    """RFC 9457 problem+json."""

    type: str
    title: str
    status: int
    code: str
    errors: list[FaultModel]
    request_id: str


class SubmissionModel(BaseModel):
    """The event is in Kafka (accepted), or was forgotten because consent is false (discarded)."""

    status: Literal["accepted", "discarded"]
    event_id: str = Field(description="The same on every retry with the same idempotency key.")
    idempotency_key: str
    received_at: str
    reason: Literal["no_consent"] | None = None


class LineModel(BaseModel):
    """What became of one line of a batch."""

    line: int = Field(description="Counted from 1, blank lines included.")
    status: Literal["accepted", "discarded", "rejected"]
    event_id: str | None = None
    code: str | None = None
    errors: list[FaultModel] | None = None


class BatchModel(BaseModel):
    """What became of a batch. Every accepted line is in Kafka."""

    accepted: int
    discarded: int
    rejected: int
    results: list[LineModel]


class QueuedModel(BaseModel):
    """The file is in storage, and its job waits for a worker."""

    job_id: UUID
    status: Literal["PENDING"]


class JobModel(BaseModel):
    """The import of one file. Row counts are as of the worker's last word."""

    job_id: UUID
    status: Status
    dataset: str
    file: str | None = Field(description="What the client called the file.")
    format: Literal["csv", "json", "ndjson", "parquet", "gzip", "zip"] = Field(description="By its bytes.")
    options: dict[str, str | bool] = Field(description="How the file is to be read, where that was said.")
    attempts: int
    rows_read: int
    rows_valid: int
    rows_invalid: int
    rows_inserted: int
    rows_updated: int
    rows_unchanged: int
    bytes: int
    sha256: str
    error: str | None = Field(description="A code: why it failed, or why its last attempt did.")
    timings: dict[str, float] = Field(description="Seconds of each stage.")
    cancel_requested: bool
    created_at: str
    started_at: str | None
    finished_at: str | None


class JobsModel(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobModel]
    next_cursor: str | None = Field(description="Of the page behind; null: this is the last.")


class RowErrorModel(BaseModel):
    """What is wrong with one line of a file."""

    line: int
    column: str | None = Field(description="Null: the row as a whole.")
    code: str
    message: str = Field(description="What is wrong; never the value.")
    raw_row: str | None = Field(description="The row as it was sent, up to a limit.")


class RowErrorsModel(BaseModel):
    """Refused rows, in the order of the file."""

    errors: list[RowErrorModel]
    next_cursor: str | None = Field(description="Of the page behind; null: this is the last.")


class DesiredModel(BaseModel):
    """What is wanted from now on. The jobs follow within seconds; GET status says how far they are."""

    desired: Literal["running", "stopped"]


class EnqueuedModel(BaseModel):
    """The record is sent again once its delay is over and the domain runs."""

    job_id: UUID


class QueryModel(BaseModel):
    """One query or loop of the domain, by its last word."""

    name: str
    state: str = Field(
        description="starting, running, stopping, stopped, restarting (an outage), failed (somebody must "
        "mend something) or lost (silent for 15 s, and was not stopped)."
    )
    lag: int | None = Field(description="Records or files that it has not taken yet; null: unknown.")
    last_batch_at: str | None


class ControlStatusModel(BaseModel):
    """What is wanted, and what is."""

    desired: Literal["running", "stopped"]
    actual: Literal["running", "stopped", "changing"]
    queries: list[QueryModel]


class ControlMetricsModel(BaseModel):
    """Counts of the caller's tenant."""

    processed: int
    skipped: int = Field(description="Records of events that had come before.")
    errors: int
    processing_ms_p95: float | None = Field(
        description="What 95 % of the last batches took at most, of the slowest query; null: unknown."
    )
    queue_depth: int = Field(description="Enqueued records that were not sent yet.")


class DependencyModel(BaseModel):
    """Whether something that the API needs answers."""

    status: Literal["ok", "down"]
    latency_ms: float


class HealthModel(BaseModel):
    """`degraded`: works without Redis, without PostgreSQL but for uploads, dead letters and the CRM's
    control, or without the schema registry, which the jobs need; `down`: takes no events."""

    status: Literal["ok", "degraded", "down"]
    dependencies: dict[str, DependencyModel]


class LiveModel(BaseModel):
    """The process answers."""

    status: Literal["ok"]
