"""lead.ingest: a valid event → its row of silver.leads.

`id` is made from tenant and idempotency key, so that silver, PostgreSQL and Elasticsearch agree on it;
`event_id` is the producer's, or the same when there was none. A phone number or address that is not one is
stored null with a warning, the original kept in `extras` under its pointer.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from schemas.envelope import to_json
from transformations.enrich import agent_of, e164, place_of, valid_ip
from transformations.event_ids import event_ids
from transformations.quick import Columns
from transformations.values import campaign, each, each_part
from transformations.verdict import Normalise

# column of silver, pointer in the body, name in an address
_UTM = tuple(
    (f"utm_{name}", f"/context/utm/{name}", name)
    for name in ("source", "medium", "campaign", "content", "term")
)
# columns of silver that are as they were said
_AS_SAID = {
    "idempotency_key": "/idempotency_key",
    "source": "/source",
    "received_at": "/received_at",
    "first_name": "/payload/first_name",
    "last_name": "/payload/last_name",
    "message": "/payload/message",
    "submission_type": "/payload/submission_type",
    "consent": "/payload/consent",
    "user_agent": "/context/user_agent",
    "metadata": "/metadata",
}
# columns of silver whose value may be unreadable, and who reads them
_READ = {"phone": ("/payload/phone", e164), "ip_address": ("/context/ip_address", valid_ip)}


def normalise_leads(geo_database: str | None) -> Normalise:
    """A function (values, unknown fields, tenants) → silver.leads' columns before its lineage, `warned`
    and `extras`.

    Null rule: what was not said stays null.
    """

    def normalise(
        values: Columns, unknown: Sequence[dict[str, Any] | None], tenants: Sequence[str]
    ) -> Columns:
        made: Columns = {column: values[pointer] for column, pointer in _AS_SAID.items()}
        made["id"] = event_ids(tenants, values["/idempotency_key"])
        ids = zip(values["/event_id"], made["id"], strict=True)
        made["event_id"] = [said.lower() if said else own for said, own in ids]
        made["email"] = [said.lower() for said in values["/payload/email"]]
        for column, (pointer, read) in _READ.items():
            made[column] = each(read, values[pointer])
        addresses = made["ip_address"] if geo_database else [None] * len(tenants)
        made["geo_country"], made["geo_city"] = each_part(partial(place_of, geo_database), addresses, 2)
        made["device"], made["browser"], made["os"] = each_part(agent_of, values["/context/user_agent"], 3)
        unread = {
            column: [row for row, text in enumerate(made[column]) if not text and values[pointer][row]]
            for column, (pointer, _) in _READ.items()
        }
        extras = _extras(values, unread, unknown)
        return {**made, **_campaign(values), "warned": _warned(unread, len(tenants)), "extras": extras}

    return normalise


def _campaign(values: Columns) -> Columns:
    """The utm columns: from the body, gaps filled from the page's address."""
    tagged = [found or {} for found in each(_tags, values["/context/page_url"])]
    return {
        column: [said or tags.get(name) for said, tags in zip(values[pointer], tagged, strict=True)]
        for column, pointer, name in _UTM
    }


def _tags(page: str) -> Mapping[str, str]:
    return campaign(page) if "utm_" in page else {}


def _extras(
    values: Columns, unread: Mapping[str, Sequence[int]], unknown: Sequence[dict[str, Any] | None]
) -> list[str | None]:
    """Unknown fields, and what was said but could not be read."""
    every = list(unknown)
    for column, rows in unread.items():
        pointer, _ = _READ[column]
        for row in rows:
            every[row] = {**(every[row] or {}), pointer: values[pointer][row]}
    return [to_json(found) if found else None for found in every]


def _warned(unread: Mapping[str, Sequence[int]], count: int) -> list[list[str] | None]:
    """The columns that each row lost, None without any."""
    warned: list[list[str] | None] = [None] * count
    for column, rows in unread.items():
        for row in rows:
            warned[row] = [*(warned[row] or []), column]
    return warned
