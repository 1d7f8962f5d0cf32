"""An activity of Marketo, with its lead's current values → an event of the contract marketo.leads.delta.

What is missing or cannot be read is left as it is: refine makes a dead letter of it, with the reasons.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from headwater.clock import iso
from headwater.identity import message_key

# Field of the event → Marketo's REST name.
LEAD_FIELDS = {
    "email": "email",
    "first_name": "firstName",
    "last_name": "lastName",
    "company": "company",
}
_CHANGES = {12: "created", 13: "updated"}


def event(
    account_id: str,
    feed: str,
    activity: Mapping[str, Any],
    lead: Mapping[str, Any] | None,
    attributes: Iterable[str],
) -> dict[str, Any] | None:
    """None for an activity that is no change of a lead. Without `lead`, and for nulls, fields are left out.

    The id is Marketo's own of the activity, so that whoever reads it again makes the same event.
    """
    change = "deleted" if feed == "deletions" else _CHANGES.get(_number(activity, "activityTypeId"))
    if change is None:
        return None
    known = lead or {}
    values = {
        "event_id": _text(activity.get("marketoGUID") or activity.get("id")),
        "account_id": account_id,
        "marketo_id": _text(activity.get("leadId")),
        "change_type": change,
        "updated_at": _utc(activity.get("activityDate")),
        **{field: known.get(name) for field, name in LEAD_FIELDS.items()},
        "attributes": {name: known[name] for name in attributes if known.get(name) is not None} or None,
    }
    return {field: told for field, told in values.items() if told is not None}


def lead_id(activity: Mapping[str, Any]) -> int:
    """Whose it is; 0, which nobody's is, when it does not say."""
    return _number(activity, "leadId")


def moment(activity: Mapping[str, Any]) -> datetime | None:
    """When it happened, in UTC; None when it does not say, or not in which zone."""
    try:
        found = datetime.fromisoformat(activity["activityDate"])
        return found.astimezone(UTC) if found.tzinfo else None
    except (KeyError, TypeError, ValueError, OverflowError):  # the last of the year 1 in the east
        return None


def key(made: Mapping[str, Any]) -> bytes:
    """The record's key: tenant and event id."""
    # Half a surrogate pair has no UTF-8, and must not stop us.
    name = str(made.get("event_id", "")).encode(errors="replace").decode()
    return message_key(made["account_id"], name)


def value(made: Mapping[str, Any]) -> bytes:
    """The record's value, in ASCII for the same reason."""
    return json.dumps(made, separators=(",", ":")).encode()


def _number(activity: Mapping[str, Any], name: str) -> int:
    found = activity.get(name)
    return found if isinstance(found, int) else 0


def _text(raw: Any) -> str | None:
    return None if raw is None else str(raw)


def _utc(raw: Any) -> Any:
    found = moment({"activityDate": raw})
    return iso(found) if found else raw
