"""ops.ledger → what refine made of each stream's rows, by tenant and day; without Spark."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.lake_files import Files, table_files
from headwater.lake_parts import newest_paths
from headwater.lake_rows import reading, rows_of
from headwater.settings import Settings
from schemas.tables import LEDGER

ALL = "*"  # as a tenant: everybody, and nobody, in one
RECENT = timedelta(hours=24)
_BATCH_ROWS = 65_536
_COUNTS = ("in_rows", "duplicate", "dead")
_COLUMNS = pa.schema(
    [
        *[(name, pa.string()) for name in ("query", "stream", "tenant_id")],
        *[(name, pa.int64()) for name in _COUNTS],
        ("written_at", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True)
class Counts:
    """Rows that came, and what became of some of them."""

    in_rows: int = 0
    duplicate: int = 0
    dead: int = 0

    def __add__(self, more: "Counts") -> "Counts":
        both = (self.in_rows + more.in_rows, self.duplicate + more.duplicate, self.dead + more.dead)
        return Counts(*both)


@dataclass
class Series:
    """What came of a stream for one tenant: by day, in the last 24 hours, and when the last row did."""

    stream: str
    tenant_id: str
    last_at: datetime
    recent: Counts = Counts()
    days: dict[date, Counts] = field(default_factory=dict)

    def add(self, day: date, counts: Counts, last_at: datetime) -> None:
        """More of a day."""
        self.days[day] = self.days.get(day, Counts()) + counts
        self.last_at = max(self.last_at, last_at)


def ledger_days(settings: Settings, now: datetime, weeks: int) -> list[Series]:
    """Every stream with each of its tenants, and with ALL, of the days of so many weeks before today.

    Rows of which nobody could tell the tenant are in ALL only. Without a ledger there are none. Raises
    TransientError while the lake is away, SetupError where it cannot be read without Spark.
    """
    with reading(LEDGER.full_name):
        files = table_files(settings, LEDGER.full_name)
        # One day more: the last complete one is compared with all the days before it.
        since = datetime.combine(now.date() - timedelta(weeks=weeks, days=1), datetime.min.time(), UTC)
        return _series(_rows(files, since), now) if files else []


def _rows(files: Files, since: datetime) -> Iterable[pa.Table]:
    for path in newest_paths(files.actions, "written_at", since):
        for rows in rows_of(files, path, _COLUMNS, _BATCH_ROWS):
            refined = pc.starts_with(rows["query"], "refine.")
            recent = pc.greater_equal(rows["written_at"], pa.scalar(since, _COLUMNS.field("written_at").type))
            some = pc.greater(rows["in_rows"], 0)
            yield rows.filter(pc.and_(pc.and_(refined, recent), some))


def _series(parts: Iterable[pa.Table], now: datetime) -> list[Series]:
    found: dict[tuple[str, str], Series] = {}
    recent: dict[tuple[str, str], Counts] = defaultdict(Counts)
    for rows in parts:
        for row in _by_day(rows, now):
            counts = Counts(*[row[f"{name}_sum"] or 0 for name in _COUNTS])
            for tenant in dict.fromkeys((row["tenant_id"], ALL)):
                if tenant is None:
                    continue
                key = (row["stream"], tenant)
                one = found.setdefault(key, Series(*key, row["written_at_max"]))
                one.add(row["day"], counts, row["written_at_max"])
                if row["recent"]:
                    recent[key] += counts
    for key, counts in recent.items():
        found[key].recent = counts
    return [found[key] for key in sorted(found)]


def _by_day(rows: pa.Table, now: datetime) -> list[dict[str, Any]]:
    moment = pa.scalar(now - RECENT, _COLUMNS.field("written_at").type)
    keyed = rows.append_column("day", pc.cast(rows["written_at"], pa.date32()))
    keyed = keyed.append_column("recent", pc.greater(rows["written_at"], moment))
    sums = [*[(name, "sum") for name in _COUNTS], ("written_at", "max")]
    grouped = keyed.group_by(["stream", "tenant_id", "day", "recent"], use_threads=False).aggregate(sums)
    found: list[dict[str, Any]] = grouped.to_pylist()
    return found
