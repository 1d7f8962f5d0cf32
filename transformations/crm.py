"""The streams of the domain crm: a valid event → its row of silver.

An event says what has happened (`id`, `eventId`, `eventType`, `metadata`) and, in `data`, what the lead,
contact or opportunity is like now. Each field goes into the column of its name as SQL writes it, the id in
`data` into that of the thing: lead_id, contact_id, opportunity_id. Values stay as they were said, but for
e-mail addresses, which become lower case, so that they can be compared.
"""

from collections.abc import Sequence
from typing import Any

from headwater.text import snake_case
from schemas.envelope import to_json
from transformations.quick import Columns
from transformations.values import each
from transformations.verdict import Normalise

_DATA = "/data/"
# The tenant, which the lineage has, and the moment, which is its event time.
_IN_THE_LINEAGE = ("organization_id", "timestamp")
_DAY_US = 86_400_000_000


def normalise_crm(thing: str, _geo_database: str | None) -> Normalise:
    """A function (values, unknown fields, tenants) → columns of silver before its lineage; `event_date`, the
    UTC day as days since 1970, and `extras`. `thing` is the column of `data`'s own id, where that has one. No
    value is ever `warned` of.

    Null rule: what was not said stays null.
    """

    def normalise(
        values: Columns, unknown: Sequence[dict[str, Any] | None], tenants: Sequence[str]
    ) -> Columns:
        made = {_column(pointer, thing): column for pointer, column in values.items()}
        made["event_date"] = [time // _DAY_US for time in values["/timestamp"]]
        if "email" in made:
            made["email"] = each(str.lower, made["email"])
        made["warned"] = [None] * len(tenants)
        made["extras"] = [to_json(found) if found else None for found in unknown]
        return {name: column for name, column in made.items() if name not in _IN_THE_LINEAGE}

    return normalise


def _column(pointer: str, thing: str) -> str:
    """/data/firstName → first_name; /data/id → the id of the thing."""
    if pointer == f"{_DATA}id":
        return thing
    return snake_case(pointer.removeprefix(_DATA).removeprefix("/"))
