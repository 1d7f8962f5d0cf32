"""The files of ops.dead_letters and their rows, in the order in which they may matter."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from headwater.lake_files import Files, table_files
from headwater.lake_rows import reading, rows_of
from headwater.settings import Settings
from schemas.letters import LETTERS
from schemas.tables import DEAD_LETTERS
from sources.letters.wanted import Wanted

TABLE = DEAD_LETTERS.full_name
BATCH_ROWS = 16_384
PAYLOAD_BATCH_ROWS = 256  # of up to 256 KiB each
_HEAVY = ("payload", "headers")
# All that is told of a letter in a list.
LISTED = tuple(name for name in LETTERS.names if name not in _HEAVY)
# Statistics hold times cut to their second, or millisecond.
_SLACK = timedelta(seconds=1)


@dataclass(frozen=True)
class Part:
    """A file, and between which times its letters failed; None: nobody knows."""

    path: str
    first: datetime | None
    last: datetime | None


class Snapshot:
    """The letters as they are now. Without a table there are none."""

    def __init__(self, settings: Settings) -> None:
        """Raises TransientError while the lake is away, SetupError where it cannot be read without Spark."""
        with reading(TABLE):
            self._files: Files | None = table_files(settings, TABLE)
            self._parts = _parts(self._files.actions) if self._files else []

    def parts(self, wanted: Wanted) -> list[Part]:
        """The files that may have such letters, those with the newest first."""
        never, always = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        since, until = wanted.since or never, wanted.until or always
        found = [p for p in self._parts if (p.last or always) >= since and (p.first or never) < until]
        return sorted(found, key=lambda part: part.last or always, reverse=True)

    def rows(self, part: Part, wanted: Wanted, names: Iterable[str]) -> Iterator[pa.Table]:
        """These columns, and those that are looked at, of the letters in a file that are wanted."""
        if not self._files:
            return
        needed = {*names, *wanted.columns}
        columns = pa.schema([field for field in LETTERS if field.name in needed])
        at_once = PAYLOAD_BATCH_ROWS if needed & {*_HEAVY} else BATCH_ROWS
        with reading(TABLE):
            for rows in rows_of(self._files, part.path, columns, at_once):
                yield wanted.fits(rows)

    def scan(self, wanted: Wanted, names: Iterable[str]) -> Iterator[pa.Table]:
        """The same of all files."""
        for part in self.parts(wanted):
            yield from self.rows(part, wanted, names)


def _parts(actions: pa.Table) -> list[Part]:
    paths = actions["path"].to_pylist()
    first, last = (_times(actions, f"{end}.failed_at") for end in ("min", "max"))
    return [
        Part(path, begin and begin - _SLACK, end and end + _SLACK)
        for path, begin, end in zip(paths, first, last, strict=True)
    ]


def _times(actions: pa.Table, name: str) -> list[datetime | None]:
    if name not in actions.column_names:
        return [None] * actions.num_rows
    return [_utc(value) for value in actions[name].to_pylist()]


def _utc(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)
