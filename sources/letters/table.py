"""The files of ops.dead_letters and their rows, in the order in which they may matter."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from headwater.lake_files import Files, table_files
from headwater.lake_parts import Part, newest_first, parts_of
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


class Snapshot:
    """The letters as they are now. Without a table there are none."""

    def __init__(self, settings: Settings) -> None:
        """Raises TransientError while the lake is away, SetupError where it cannot be read without Spark."""
        with reading(TABLE):
            self._files: Files | None = table_files(settings, TABLE)
            self._parts = parts_of(self._files.actions, "failed_at") if self._files else []

    def parts(self, wanted: Wanted) -> list[Part]:
        """The files that may have such letters, those with the newest first."""
        return newest_first(self._parts, wanted.since, wanted.until)

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
