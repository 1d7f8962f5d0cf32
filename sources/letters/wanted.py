"""Which dead letters somebody asks for: a filter, as data and as a function of rows. Pure."""

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.letters import LETTERS

NEW, REPLAYED, DISCARDED = "new", "replayed", "discarded"
STATUSES = (NEW, REPLAYED, DISCARDED, "erased")
_COLUMNS = {
    "stream": "stream",
    "tenant": "tenant_id",
    "stage": "stage",
    "fingerprint": "fingerprint",
    "contract_version": "contract_version",
    "status": "status",
    "replay_of": "replay_of",
}
_TIME = LETTERS.field("failed_at").type


@dataclass(frozen=True)
class Wanted:
    """Letters that meet all that is given. `reason` is any of a letter's codes; `since` is the first moment
    of failed_at, `until` the first that is too late."""

    stream: str | None = None
    tenant: str | None = None
    stage: str | None = None
    reason: str | None = None
    fingerprint: str | None = None
    contract_version: str | None = None
    status: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    replay_of: str | None = None
    ids: tuple[str, ...] = ()

    @property
    def given(self) -> dict[str, Any]:
        """What is asked for, by name; times as text."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        texts = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items() if v}
        return {k: v.isoformat() if isinstance(v, datetime) else v for k, v in texts.items()}

    @property
    def columns(self) -> set[str]:
        """The columns that `fits` looks at."""
        named = {column for name, column in _COLUMNS.items() if getattr(self, name) is not None}
        more = {"failed_at": self.since or self.until, "reasons": self.reason, "dead_letter_id": self.ids}
        return named | {column for column, asked in more.items() if asked}

    def fits(self, rows: pa.Table) -> pa.Table:
        """Those of the rows."""
        for name, column in _COLUMNS.items():
            if getattr(self, name) is not None:
                rows = rows.filter(pc.equal(rows[column], getattr(self, name)))
        if self.since:
            rows = rows.filter(pc.greater_equal(rows["failed_at"], pa.scalar(self.since, _TIME)))
        if self.until:
            rows = rows.filter(pc.less(rows["failed_at"], pa.scalar(self.until, _TIME)))
        if self.ids:
            rows = rows.filter(pc.is_in(rows["dead_letter_id"], pa.array(self.ids, pa.string())))
        return _with_reason(rows, self.reason) if self.reason else rows


def moment(text: str) -> datetime:
    """A time as ISO 8601, UTC where it names no zone. Raises ValueError."""
    found = datetime.fromisoformat(text)
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("a time beyond all calendars") from None


def _with_reason(rows: pa.Table, code: str) -> pa.Table:
    """Those with this code among their reasons."""
    reasons = rows["reasons"].combine_chunks()
    codes = pc.struct_field(pc.list_flatten(reasons), "code")
    hits = pc.list_parent_indices(reasons).filter(pc.equal(codes, code))
    return rows.take(pc.unique(hits))
