"""A table's log stays short: what every query has read past, a while ago and before a checkpoint, is deleted.

Each look at a Delta table lists its whole log. At a commit every few seconds that would be tens of thousands
of files within days, and seconds for each look. Delta itself deletes by age alone, so an age that keeps the
log short would cut off a query that was away for longer.
"""

import re
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from headwater.checkpoint import ends
from headwater.errors import SetupError
from headwater.log import logger

KEPT_S = 2 * 3600
_log = logger(__name__)
_VERSION = re.compile(r"\.?(\d{20})\.")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


def trim(lake: str, path: str, table_id: str, kept_s: float = KEPT_S) -> int:
    """Delete the entries that nobody needs any more of the local table at `path`; how many files that were.

    A query that is away keeps what it has not read, for as long as its checkpoint is there. Every version
    that is left can still be read. While any query's checkpoint cannot be understood nothing is deleted.
    Never fails: it is called behind a commit that is done.
    """
    try:
        return _trim(Path(path, "_delta_log"), Path(lake, "_checkpoints"), table_id, kept_s)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        # For example a checkpoint that is being deleted, or that another user keeps to himself.
        _log.warning("log_not_trimmed", table=path, why=type(fault).__name__)
        return 0


def behind(lake: str, table_id: str, version: int, queries: Collection[str]) -> list[str]:
    """Those of the queries whose last batch that is done has not read past this version of the table, or that
    are in their first batch. One without a checkpoint will read the table as it is."""
    found = []
    for name in queries:
        folder = Path(lake, "_checkpoints", name)
        done, begun = _batches(folder / "commits"), _batches(folder / "offsets")
        read = [reads for table, reads in _ends(folder, max(done)) if table == table_id] if done else []
        if begun and (not done or any(reads <= version for reads in read)):
            found.append(name)
    return found


def unread(lake: str, table_id: str) -> dict[str, int]:
    """Each query that reads this table, and the first version that it reads when it is started again.

    Raises SetupError where a checkpoint cannot be understood.
    """
    found: dict[str, int] = {}
    for query in _queries(Path(lake, "_checkpoints")):
        try:
            for before in _position(query, table_id):
                found[query.name] = before + 1
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise SetupError(f"the checkpoint {query} cannot be read: {type(fault).__name__}") from fault
    return found


def _ends(query: Path, batch: int) -> Iterator[tuple[str, int]]:
    """Table, and the version that the batch has ended before; of a source that had no data yet nothing."""
    for position in ends(query, batch):
        if isinstance(position, dict) and "reservoirId" in position:
            yield position["reservoirId"], int(position["reservoirVersion"])


def _trim(log: Path, checkpoints: Path, table_id: str, kept_s: float) -> int:
    read = [before for query in _queries(checkpoints) for before in _position(query, table_id)]
    needed = [_newest(log, time.time() - kept_s), *read]
    starts = [int(found[1]) for file in log.iterdir() if (found := _CHECKPOINT.fullmatch(file.name))]
    first = max((start for start in starts if start <= min(needed)), default=0)
    forgotten = [f for f in log.iterdir() if (found := _VERSION.match(f.name)) and int(found[1]) < first]
    for file in forgotten:
        file.unlink(missing_ok=True)
    return len(forgotten)


def _newest(log: Path, before: float) -> int:
    """The newest version that was committed before a moment; 0 when none was."""
    old = [file for file in log.glob("*.json") if file.stat().st_mtime < before]
    return max((int(file.stem) for file in old if file.stem.isdecimal()), default=0)


def _queries(checkpoints: Path) -> list[Path]:
    return sorted(_listed(checkpoints))


def _batches(folder: Path) -> set[int]:
    return {int(file.name) for file in _listed(folder) if file.name.isdecimal()}


def _listed(folder: Path) -> list[Path]:
    """What is in it, nothing if it is not there. Not by a pattern: nothing would be in a folder that may not
    be read."""
    return list(folder.iterdir()) if folder.is_dir() else []


def _position(query: Path, table_id: str) -> Iterator[int]:
    """The version that the query reads this table from when it is started again; none where it does not.

    Spark then asks for its last committed batch once more, so it reads from where the one before that ended;
    a first batch read the whole version before the one that its end names.
    """
    last = max(_batches(query / "commits"), default=0)
    begun = _batches(query / "offsets")
    ended = sorted(begun & {last - 1, last})
    if begun and not ended:
        raise ValueError(f"{query.name}: commits and offsets do not belong together")
    for batch in ended[:1]:
        yield from (reads - 1 for table, reads in _ends(query, batch) if table == table_id)
