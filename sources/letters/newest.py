"""The newest dead letters that are wanted, a page at a time."""

from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from headwater.settings import Settings
from schemas.letters import LETTERS
from sources.letters.table import LISTED, Snapshot
from sources.letters.wanted import Wanted

Place = tuple[datetime, str]  # failed_at and dead_letter_id of a letter
_ORDER = [("failed_at", "descending"), ("dead_letter_id", "descending")]
_TIME = LETTERS.field("failed_at").type


def newest(
    settings: Settings, wanted: Wanted, limit: int, after: Place | None = None
) -> list[dict[str, Any]]:
    """The newest so many, newest first, from behind the place of one: all but payload and headers.

    Files are read from the newest on, until no other can have a newer letter.
    """
    snapshot = Snapshot(settings)
    kept = pa.schema([LETTERS.field(name) for name in LISTED]).empty_table()
    for part in snapshot.parts(wanted):
        if kept.num_rows == limit and part.last and part.last < kept["failed_at"][-1].as_py():
            break
        for rows in snapshot.rows(part, wanted, LISTED):
            found = pa.concat_tables([kept, _behind(rows.select(kept.column_names), after)])
            kept = found.sort_by(_ORDER).slice(0, limit)
    letters: list[dict[str, Any]] = kept.to_pylist()
    return letters


def _behind(rows: pa.Table, after: Place | None) -> pa.Table:
    if after is None:
        return rows
    moment, name = pa.scalar(after[0], _TIME), after[1]
    same = pc.and_(pc.equal(rows["failed_at"], moment), pc.less(rows["dead_letter_id"], name))
    return rows.filter(pc.or_(pc.less(rows["failed_at"], moment), same))
