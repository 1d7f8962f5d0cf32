"""A table's files by the times of their rows, as statistics have them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# Statistics hold times cut to their second, or millisecond.
_SLACK = timedelta(seconds=1)
_TIME = pa.timestamp("us", tz="UTC")
_NEVER, _ALWAYS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Part:
    """A file, and between which times its rows are; None: nobody knows."""

    path: str
    first: datetime | None
    last: datetime | None


def parts_of(actions: pa.Table, column: str) -> list[Part]:
    """The files of a snapshot's add actions, by this column's times."""
    paths = actions["path"].to_pylist()
    first, last = (_times(actions, f"{end}.{column}") for end in ("min", "max"))
    return [
        Part(path, begin and begin - _SLACK, end and end + _SLACK)
        for path, begin, end in zip(paths, first, last, strict=True)
    ]


def newest_first(parts: list[Part], since: datetime | None, until: datetime | None = None) -> list[Part]:
    """Those that may have rows from then on, before then; those with the newest first."""
    begin, end = since or _NEVER, until or _ALWAYS
    found = [p for p in parts if (p.last or _ALWAYS) >= begin and (p.first or _NEVER) < end]
    return sorted(found, key=lambda part: part.last or _ALWAYS, reverse=True)


def newest_paths(actions: pa.Table, column: str, since: datetime) -> list[str]:
    """The paths of files that may have rows from then on, those with the newest first.

    Of many files no object of Python is made: other threads would wait for that.
    """
    name = f"max.{column}"
    if name not in actions.column_names:
        found: list[str] = actions["path"].to_pylist()
        return found
    last = actions[name].cast(_TIME)
    may = pc.fill_null(pc.greater_equal(last, pa.scalar(since - _SLACK, _TIME)), True)
    dated = pa.table({"path": actions["path"], "last": last}).filter(may)
    paths: list[str] = dated.sort_by([("last", "descending")])["path"].to_pylist()
    return paths


def _times(actions: pa.Table, name: str) -> list[datetime | None]:
    if name not in actions.column_names:
        return [None] * actions.num_rows
    return [_utc(value) for value in actions[name].to_pylist()]


def _utc(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
