"""The answers, as the OpenAPI document shows them."""

from typing import Literal

from pydantic import BaseModel, Field


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


class DependencyModel(BaseModel):
    """Whether something that the API needs answers."""

    status: Literal["ok", "down"]
    latency_ms: float


class HealthModel(BaseModel):
    """`degraded`: works without Redis; `down`: events cannot be taken."""

    status: Literal["ok", "degraded", "down"]
    dependencies: dict[str, DependencyModel]


class LiveModel(BaseModel):
    """The process answers."""

    status: Literal["ok"]
