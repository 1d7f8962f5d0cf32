"""The answers about dead letters, as the OpenAPI document shows them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ReasonModel(BaseModel):
    """One thing that is wrong."""

    code: str = Field(examples=["missing_required", "rule:pattern", "avro_mismatch"])
    rule: str | None
    field: str | None = Field(description="JSON Pointer into the event; empty: the whole of it.")
    message: str | None = Field(description="What is wrong; never the value.")


class LetterModel(BaseModel):
    """A dead letter without its payload. Times are ISO 8601 with microseconds."""

    dead_letter_id: str
    fingerprint: str | None = Field(description="Equal for the same reasons and bytes.")
    stream: str | None
    stage: str | None = Field(description="api, decode, validate, import or sink:<name>.")
    tenant_id: str
    reasons: list[ReasonModel]
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None
    event_id: str | None
    event_time: str | None
    failed_at: str
    code_version: str | None
    contract_version: str | None
    replay_count: int | None
    replay_of: str | None = Field(description="The letter that was sent again, and failed as this one.")
    status: str | None = Field(description="new, replayed, discarded or erased.")
    failed_sinks: list[str] | None


class LettersModel(BaseModel):
    """Letters, newest first."""

    letters: list[LetterModel]
    next_cursor: str | None = Field(description="Of the page behind; null: this is the last.")


class HeaderModel(BaseModel):
    """A header of the record."""

    name: str | None
    size: int | None = Field(description="Bytes of its value; null: it has none.")
    value: str | None = Field(None, description="In base64; only with pii:read.")


class PayloadModel(BaseModel):
    """The bytes as they came, or, without pii:read, masked."""

    model_config = ConfigDict(populate_by_name=True)
    masked: bool
    size: int
    sha256: str
    content: Any = Field(
        None,
        alias="json",
        description="Masked: the structure, with type and length in place of what is personal or unknown. "
        "Not there when the payload is no JSON.",
    )
    base64: str | None = Field(None, description="Not masked: the bytes, of which 256 KiB are kept.")


class WholeLetterModel(LetterModel):
    """All of a letter."""

    headers: list[HeaderModel]
    payload: PayloadModel | None = Field(description="Null: the letter points at bronze, or was erased.")
    same_fingerprint: int = Field(description="How many letters of the tenant have it, with this one.")
    replays: list[LetterModel] = Field(description="Letters that came of sending this one again.")


class LetterGroupModel(BaseModel):
    """Letters that have in common what was asked by, each of which is a field here."""

    model_config = ConfigDict(extra="allow")
    letters: int
    first_failed_at: str
    last_failed_at: str
    example: str = Field(description="The id of one of the newest.")


class LetterGroupsModel(BaseModel):
    """Groups, the largest first."""

    groups: list[LetterGroupModel]


class DiscardedModel(BaseModel):
    """What was new of the caller's letters, and is discarded now."""

    discarded: int
