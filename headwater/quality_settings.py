"""The part of the configuration that says when data is good enough."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from headwater.section import ROOT, Section

Measure = Literal["freshness", "volume", "duplicate_share", "dead_share"]
Share = Annotated[float, Field(ge=0, le=1)]


class StreamLimits(Section):
    """What one stream has in place of the limits of all."""

    max_age_hours: float | None = Field(default=None, gt=0)
    max_dead_share: Share | None = None
    max_duplicate_share: Share | None = None


class LedgerLimits(Section):
    """What the ledger is held against, for each stream and tenant."""

    max_age_hours: float = Field(gt=0)
    max_dead_share: Share
    max_duplicate_share: Share
    # Of fewer rows no share is told.
    min_rows: int = Field(ge=1)
    weeks: int = Field(ge=1, le=52)
    min_days: int = Field(ge=3)
    max_z: float = Field(gt=0)
    # Measures that fail the run; the others warn.
    gates: tuple[Measure, ...]
    streams: dict[str, StreamLimits]

    def of(self, stream: str) -> "LedgerLimits":
        """The limits of one stream."""
        own = self.streams.get(stream)
        return self.model_copy(update=own.model_dump(exclude_none=True)) if own else self


class Quality(Section):
    folder: Path
    expectations: Path
    max_rows: int = Field(ge=1)
    keep_runs: int = Field(ge=1, le=1_000)
    mlflow_uri: str | None
    mlflow_timeout_s: int = Field(ge=1, le=300)
    ledger: LedgerLimits

    @property
    def root(self) -> Path:
        """Where reports are, as an absolute path."""
        return ROOT / self.folder

    @property
    def suites(self) -> Path:
        """Where hand-written suites are, as an absolute path."""
        return ROOT / self.expectations
