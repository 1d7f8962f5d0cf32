"""Dead letters in groups: how many, since when, until when, and one of them to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.settings import Settings
from sources.letters.table import Snapshot
from sources.letters.wanted import Wanted

# By what letters are grouped, and the column that it is made of.
BY = {
    "reason": "reasons",
    "fingerprint": "fingerprint",
    "stream": "stream",
    "stage": "stage",
    "status": "status",
    "tenant": "tenant_id",
    "day": "failed_at",
    "contract-version": "contract_version",
}
_FOUND = [([], "count_all"), ("failed_at", "min"), ("failed_at", "max"), ("dead_letter_id", "first")]
_Key = tuple[str | None, ...]


@dataclass(frozen=True)
class Group:
    """Letters that have `key` in common, in the order of what was asked. `example` is one of the newest."""

    key: _Key
    letters: int
    first: datetime
    last: datetime
    example: str

    def plus(self, more: "Group") -> "Group":
        """Both together."""
        newer = max(self, more, key=lambda group: group.last)
        first = min(self.first, more.first)
        return Group(self.key, self.letters + more.letters, first, newer.last, newer.example)

    def named(self, by: Sequence[str]) -> dict[str, Any]:
        """As a record, for people and programs."""
        names = [name.replace("-", "_") for name in by]
        times = {"first_failed_at": self.first, "last_failed_at": self.last}
        found = {"letters": self.letters, **times, "example": self.example}
        return dict(zip(names, self.key, strict=True)) | found


def groups(settings: Settings, wanted: Wanted, by: Sequence[str], limit: int) -> list[Group]:
    """The largest so many groups, the largest first. By `reason` a letter counts once for each of its codes.

    `by` are keys of BY, each once.
    """
    needed = {*[BY[name] for name in by], "failed_at", "dead_letter_id"}
    found: dict[_Key, Group] = {}
    for rows in Snapshot(settings).scan(wanted, needed):
        for group in _grouped(rows, by):
            found[group.key] = found[group.key].plus(group) if group.key in found else group
    return sorted(found.values(), key=_largest_first)[:limit]


def _largest_first(group: Group) -> tuple[int, list[str]]:
    return -group.letters, [name or "" for name in group.key]


def _grouped(rows: pa.Table, by: Sequence[str]) -> list[Group]:
    """The groups of some rows. In the order of time, so that the last one is the example."""
    rows = rows.sort_by([("failed_at", "descending")])
    if "reason" in by:
        rows = _by_reason(rows)
    keys = {name: _key(rows, name) for name in by}
    table = pa.table({**keys, "failed_at": rows["failed_at"], "dead_letter_id": rows["dead_letter_id"]})
    counted = table.group_by(list(by), use_threads=False).aggregate(_FOUND)
    return [
        Group(
            tuple(group[name] for name in by),
            group["count_all"],
            group["failed_at_min"],
            group["failed_at_max"],
            group["dead_letter_id_first"],
        )
        for group in counted.to_pylist()
    ]


def _by_reason(rows: pa.Table) -> pa.Table:
    """A row for each code of a letter, whatever how often it is named."""
    reasons = rows["reasons"].combine_chunks()
    codes = pc.struct_field(pc.list_flatten(reasons), "code")
    pairs = pa.table({"letter": pc.list_parent_indices(reasons), "code": codes})
    once = pairs.group_by(["letter", "code"], use_threads=False).aggregate([])
    return rows.take(once["letter"]).append_column("reason", once["code"])


def _key(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name == "reason":
        return rows["reason"]
    if name == "day":
        return pc.strftime(rows["failed_at"], format="%Y-%m-%d")
    return rows[BY[name]]
