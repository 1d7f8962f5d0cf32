"""The answers about replays, as the OpenAPI document shows them."""

from typing import Any

from pydantic import BaseModel, Field


class ReplayStatusModel(BaseModel):
    """A replay that a job will plan, or carry out."""

    replay_id: str
    status: str = Field(examples=["requested", "approved"])


class ReplayModel(BaseModel):
    """A replay of dead letters. Times are ISO 8601."""

    replay_id: str
    author: str = Field(description="Who asked for it.")
    why: str
    wanted: dict[str, Any] = Field(description="The filter, or the ids, with the tenant.")
    patch: list[dict[str, Any]] | None = Field(
        description="RFC 6902; its values only with dlq:replay or pii:read."
    )
    patch_sha256: str | None = Field(description="Of the patch's canonical JSON.")
    status: str = Field(description="requested, planned, approved, applied, refused or failed.")
    plan: dict[str, Any] | None = Field(description="What would come of it; null: no job has looked yet.")
    approved_by: str | None
    result: dict[str, Any] | None = Field(description="What came of it.")
    error: str | None = Field(description="Why it was refused, or failed.")
    created_at: str
    planned_at: str | None
    approved_at: str | None
    ended_at: str | None


class ReplaysModel(BaseModel):
    """Replays, newest first."""

    replays: list[ReplayModel]
    next_cursor: str | None = Field(description="Of the page behind; null: this is the last.")
