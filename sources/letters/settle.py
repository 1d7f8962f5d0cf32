"""Dead letters that are new no more: somebody is done with them, `discarded`, or they were sent again,
`replayed`.

Streams that read the table pass the change over. Safe to run again, or to be killed: it is one commit, and of
what it has changed nothing is new.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa
from deltalake import DeltaTable

from headwater.delta_change import change
from headwater.errors import SetupError
from headwater.lake_rows import reading
from headwater.locks import commit_lock
from headwater.log_trim import trim
from headwater.paths import table_path
from headwater.settings import Settings
from schemas.letters import LETTERS
from sources.letters.table import TABLE, Snapshot
from sources.letters.wanted import DISCARDED, NEW, REPLAYED, Wanted

_KEYS = ("dead_letter_id", "failed_at")


def refuse_remote(settings: Settings) -> None:
    """Raises SetupError for a lake that is not a folder."""
    if settings.lake_is_remote:
        raise SetupError(
            f"lake {settings.lake}: letters are discarded, or sent again, on a local lake only. Elsewhere "
            "there is no commit lock, Spark and delta-rs do not see each other's commits, and one could undo "
            "the other's"
        )


def new_ones(settings: Settings, wanted: Wanted) -> list[str]:
    """The ids of the letters that are wanted and new."""
    if wanted.status not in (None, NEW):
        return []
    found: list[str] = _keys(settings, replace(wanted, status=NEW))["dead_letter_id"].to_pylist()
    return found


def unknown(settings: Settings, ids: Iterable[str], tenant: str | None = None) -> list[str]:
    """Those of the ids that no letter has, or, with a tenant, none of that tenant's."""
    asked = tuple(dict.fromkeys(ids))
    rows = Snapshot(settings).scan(Wanted(tenant=tenant, ids=asked), ["dead_letter_id"])
    known = {name for part in rows for name in part["dead_letter_id"].to_pylist()}
    return [name for name in asked if name not in known]


def discard(settings: Settings, ids: Sequence[str]) -> int:
    """Discard those of the letters that are new still: how many."""
    return _settle(settings, ids, NEW, DISCARDED)


def sent_again(settings: Settings, ids: Sequence[str]) -> int:
    """The same of letters that were sent again."""
    return _settle(settings, ids, NEW, REPLAYED)


def failed_again(settings: Settings, ids: Sequence[str]) -> int:
    """Those that were sent again, and whose destination has refused them again, are new once more."""
    return _settle(settings, ids, REPLAYED, NEW)


def _settle(settings: Settings, ids: Sequence[str], old: str, new: str) -> int:
    refuse_remote(settings)
    if not ids:
        return 0
    path = table_path(settings, TABLE)
    with reading(TABLE), commit_lock(settings.lake_root, TABLE):
        found = _keys(settings, Wanted(ids=tuple(ids), status=old))
        if found.num_rows:
            times = found["failed_at"].to_pylist()
            span = ("failed_at", min(times), max(times))
            if change(path, found.select(["dead_letter_id"]), ("status", old, new), span):
                trim(settings.lake_root, path, str(DeltaTable(path).metadata().id))
    return int(found.num_rows)


def _keys(settings: Settings, wanted: Wanted) -> pa.Table:
    """Id and time of the letters that are wanted."""
    nothing = pa.schema([LETTERS.field(name) for name in _KEYS]).empty_table()
    rows = Snapshot(settings).scan(wanted, _KEYS)
    return pa.concat_tables([nothing, *[part.select(nothing.column_names) for part in rows]])
