"""lead.ingest: a valid event → its row of silver.leads.

`id` is made from tenant and idempotency key, so that silver, PostgreSQL and Elasticsearch agree on it;
`event_id` is the producer's, or the same when there was none. A phone number or address that is not one is
stored null, the original kept in `extras` under its pointer.
"""

from collections.abc import Callable
from typing import Any

from headwater import identity
from transformations.enrich import agent_of, e164, place_of, valid_ip
from transformations.envelope import to_json
from transformations.values import campaign
from transformations.verdict import Normalise

# column of silver, pointer in the body, name in an address
_UTM = tuple(
    (f"utm_{name}", f"/context/utm/{name}", name)
    for name in ("source", "medium", "campaign", "content", "term")
)
_NOTHING = (None, None, None)


def normalise_leads(geo_database: str | None) -> Normalise:
    """A function (values, unknown fields, tenant) → columns of silver.leads before its lineage, and `extras`.

    Null rule: what was not said stays null.
    """

    def normalise(values: dict[str, Any], extras: dict[str, Any], tenant_id: str) -> dict[str, Any]:
        said: Callable[[str], Any] = values.get
        key = said("/idempotency_key")
        made = identity.event_id(tenant_id, key)
        phone, address, agent = (
            said("/payload/phone"),
            said("/context/ip_address"),
            said("/context/user_agent"),
        )
        number, ip = phone and e164(phone), address and valid_ip(address)
        country, city = place_of(geo_database, ip) if ip and geo_database else (None, None)
        device, browser, system = agent_of(agent) if agent else _NOTHING
        unread = {"/payload/phone": phone, "/context/ip_address": address}
        understood = {"/payload/phone": number, "/context/ip_address": ip}
        lost = {pointer: text for pointer, text in unread.items() if text and not understood[pointer]}
        every = {**extras, **lost}
        return {
            "id": made,
            "event_id": (said("/event_id") or made).lower(),
            "idempotency_key": key,
            "source": said("/source"),
            "received_at": said("/received_at"),
            "first_name": said("/payload/first_name"),
            "last_name": said("/payload/last_name"),
            "email": said("/payload/email").lower(),
            "phone": number,
            "message": said("/payload/message"),
            "submission_type": said("/payload/submission_type"),
            "consent": said("/payload/consent"),
            "ip_address": ip,
            "user_agent": agent,
            "geo_country": country,
            "geo_city": city,
            "device": device,
            "browser": browser,
            "os": system,
            **_campaign(said),
            "metadata": said("/metadata"),
            "extras": to_json(every) if every else None,
        }

    return normalise


def _campaign(said: Callable[[str], Any]) -> dict[str, str | None]:
    """The utm columns: from the body, gaps filled from the page's address."""
    page = said("/context/page_url")
    tagged = campaign(page) if page and "utm_" in page else {}
    return {column: said(pointer) or tagged.get(name) for column, pointer, name in _UTM}
