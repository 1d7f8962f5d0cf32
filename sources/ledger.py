"""ops.ledger without Spark: what became of the records of a stream and tenant, file by file, newest first.

A file never changes, so whoever asks again is given only what is new to it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from headwater.lake_files import Files, table_files
from headwater.lake_parts import newest_paths
from headwater.lake_rows import reading, rows_of
from headwater.settings import Settings
from schemas.tables import LEDGER

# What may become of a record: the sum of these is what came in.
OUTCOMES = ("silver", "duplicate", "dead", "no_consent", "filtered", "erased")
_REFINE = "refine."
_BATCH_ROWS = 4096
_COLUMNS = pa.schema(
    [
        ("query", pa.string()),
        ("stream", pa.string()),
        ("tenant_id", pa.string()),
        ("written_at", pa.timestamp("us", tz="UTC")),
        *[(name, pa.int64()) for name in ("in_rows", *OUTCOMES)],
    ]
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of the records of a stream and tenant in one batch of refine; `outcomes` as OUTCOMES."""

    stream: str
    tenant_id: str | None
    written_at: datetime
    in_rows: int
    outcomes: tuple[int, ...]


@dataclass(frozen=True)
class Look:
    """The files that may have entries of a span, and those of them that were read now, with their entries.
    `whole`: none is left to be read."""

    paths: tuple[str, ...]
    read: dict[str, tuple[Entry, ...]]
    whole: bool


@dataclass(frozen=True)
class Balance:
    """Of one stream: what came in, and what became of it."""

    stream: str
    in_rows: int
    outcomes: Mapping[str, int]

    @property
    def missing(self) -> int:
        """Records of which nobody knows what became; less than none: more became of them than came in."""
        return self.in_rows - sum(self.outcomes.values())


def look(settings: Settings, since: datetime, known: Collection[str], most: int) -> Look:
    """The newest `most` files that are not known. Without a table there are none.

    Raises TransientError while the lake is away, SetupError where it cannot be read without Spark.
    """
    with reading(LEDGER.full_name):
        files = table_files(settings, LEDGER.full_name)
        if files is None:
            return Look((), {}, True)
        actions = _of_refine(files.actions)
        paths = newest_paths(actions, "written_at", since)
        new = [path for path in paths if path not in known]
        read = {path: _entries(files, path) for path in new[:most]}
    return Look(tuple(paths), read, len(new) <= most)


def balances(entries: Iterable[Entry]) -> list[Balance]:
    """The sums of each stream, by its name."""
    sums: dict[str, list[int]] = defaultdict(lambda: [0] * (1 + len(OUTCOMES)))
    for entry in entries:
        found = sums[entry.stream]
        for place, count in enumerate((entry.in_rows, *entry.outcomes)):
            found[place] += count
    return [
        Balance(stream, counts[0], dict(zip(OUTCOMES, counts[1:], strict=True)))
        for stream, counts in sorted(sums.items())
    ]


def _of_refine(actions: pa.Table) -> pa.Table:
    """Without files that only other queries wrote: their entries tell of no outcome."""
    if not {"min.query", "max.query"} <= {*actions.column_names}:
        return actions
    # Statistics of texts may be cut: to more than a query's verb.
    first, last = actions["min.query"], actions["max.query"]
    other = pc.or_(pc.greater(first, _REFINE + "\U0010ffff"), pc.less(last, _REFINE))
    return actions.filter(pc.invert(pc.fill_null(other, False)))


def _entries(files: Files, path: str) -> tuple[Entry, ...]:
    found = []
    for rows in rows_of(files, path, _COLUMNS, _BATCH_ROWS):
        for row in rows.filter(pc.starts_with(rows["query"], _REFINE)).to_pylist():
            # A column that came later is null in older files.
            counts = tuple(row[name] or 0 for name in OUTCOMES)
            found.append(Entry(row["stream"], row["tenant_id"], row["written_at"], row["in_rows"], counts))
    return tuple(found)
