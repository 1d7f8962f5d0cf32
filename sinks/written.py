"""What a sink says in the log when it has written a batch."""

from datetime import datetime
from typing import Any

from headwater.clock import iso
from headwater.log import logger
from sinks.base import Written

_log = logger(__name__)


def say(
    written: Written, span: tuple[datetime | None, datetime | None], seconds: float, **where: Any
) -> None:
    """One line: where, how many rows came to what, their earliest and latest event time."""
    earliest, latest = span
    _log.info(
        "written",
        **where,
        rows=written.rows,
        inserted=written.inserted,
        updated=written.updated,
        unchanged=written.unchanged,
        rejected=len(written.rejected),
        min_event_time=iso(earliest) if earliest else None,
        max_event_time=iso(latest) if latest else None,
        seconds=round(seconds, 3),
    )
