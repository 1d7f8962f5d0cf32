"""The streams of the domain interactions: a valid event → its row of silver.

Each field goes into the column of its name, as it was said. A conversation without a channel is one by text.
"""

from collections.abc import Sequence
from typing import Any

from schemas.envelope import to_json
from transformations.quick import Columns
from transformations.verdict import Normalise

_EVENT_TIMES = ("ts_ms", "updated_at")
_DAY_US = 86_400_000_000
_CHANNEL = "text"


def normalise_interactions(_geo_database: str | None) -> Normalise:
    """A function (values, unknown fields, tenants) → columns of silver before its lineage, by the names of
    the fields; `event_date`, the UTC day as days since 1970, and `extras`. No value is ever `warned` of.

    Null rule: what was not said stays null, but for `channel`.
    """
    return _normalised


def _normalised(values: Columns, unknown: Sequence[dict[str, Any] | None], tenants: Sequence[str]) -> Columns:
    made = {pointer.removeprefix("/"): column for pointer, column in values.items()}
    times = next(made[name] for name in _EVENT_TIMES if name in made)
    made["event_date"] = [time // _DAY_US for time in times]
    if "ts_ms" in made:
        made["ts_ms"] = [time // 1000 for time in times]
    if "channel" in made:
        made["channel"] = [said or _CHANNEL for said in made["channel"]]
    made["warned"] = [None] * len(tenants)
    made["extras"] = [to_json(found) if found else None for found in unknown]
    return made
