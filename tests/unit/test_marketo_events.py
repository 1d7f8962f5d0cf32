"""Activities of Marketo as events, judged by the contract of their stream."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.contract import contracts
from sources.marketo.events import event, key, moment, value
from transformations.classify import judges
from transformations.verdict import Decided

STREAM = "marketo.leads.delta"
NOW_US = int(datetime(2026, 3, 1, 13, tzinfo=UTC).timestamp()) * 1_000_000
LEAD = {
    "id": 7, "email": "zoe@example.com", "firstName": "Zoë", "lastName": "O'Brien", "company": "Söhne",
    "leadScore": 12.5, "industry": None,
}  # fmt: skip


def activity(**more: Any) -> dict[str, Any]:
    made = {"id": 4711, "marketoGUID": "g4711", "leadId": 7, "activityDate": "2026-03-01T12:00:01+0000"}
    return {**made, "activityTypeId": 13, **more}


def made(
    lead: dict[str, Any] | None = None, feed: str = "changes", fields: tuple[str, ...] = (), **more: Any
) -> Any:
    return event("acme", feed, activity(**more), lead, fields)


def decided(*found: dict[str, Any]) -> Decided:
    """What refine makes of the records."""
    contract = contracts()[STREAM]
    _, decide = judges((contract,), None)[contract.topic]
    assert decide is not None
    return decide([value(one) for one in found], [NOW_US] * len(found))


def reasons(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Why the contract refuses it; none: it is a row."""
    sound, unsound = decided(found)
    assert len(sound.tenants) + len(unsound) == 1
    return [tuple(reason) for reason in unsound[0].reasons] if unsound else []


def test_a_change_has_the_values_of_its_lead_and_further_fields_as_attributes() -> None:
    found = made(LEAD, fields=("leadScore", "industry"))
    assert found == {
        "event_id": "g4711", "account_id": "acme", "marketo_id": "7", "change_type": "updated",
        "updated_at": "2026-03-01T12:00:01.000Z", "email": "zoe@example.com", "first_name": "Zoë",
        "last_name": "O'Brien", "company": "Söhne", "attributes": {"leadScore": 12.5},
    }  # fmt: skip
    assert reasons(found) == []


@pytest.mark.parametrize(
    ("feed", "kind", "change"),
    [
        ("changes", 12, "created"),
        ("changes", 13, "updated"),
        ("changes", 1, None),
        ("changes", "13", None),
        ("changes", [13], None),
        ("deletions", 37, "deleted"),
        ("deletions", 38, "deleted"),
    ],
)
def test_the_kind_of_an_activity_is_the_kind_of_its_event(feed: str, kind: Any, change: str | None) -> None:
    found = made(feed=feed, activityTypeId=kind)
    assert (found and found["change_type"]) == change
    assert found is None or reasons(found) == []


def test_a_lead_that_is_gone_leaves_an_event_without_values() -> None:
    found = made(None, fields=("leadScore",))
    assert found.keys() == {"event_id", "account_id", "marketo_id", "change_type", "updated_at"}
    assert reasons(found) == []


def test_a_deleted_leads_name_stays_with_marketo() -> None:
    found = made(feed="deletions", activityTypeId=37, primaryAttributeValue="Zoë O'Brien")
    assert "Zo" not in json.dumps(found)


def test_the_same_activity_is_the_same_event_whatever_its_lead_says_by_then() -> None:
    first, later, other = made(LEAD), made({**LEAD, "email": "new@example.com"}), made(marketoGUID="g4712")
    sound, _ = decided(first, later, other)
    assert sound.identities[0] == sound.identities[1] != sound.identities[2]


def test_an_old_activity_without_a_guid_has_its_number() -> None:
    found = made(marketoGUID=None)
    assert (found["event_id"], reasons(found)) == ("4711", [])


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("2026-03-01T12:00:01Z", "2026-03-01T12:00:01.000Z"),
        ("2026-03-01T06:00:01-0600", "2026-03-01T12:00:01.000Z"),
        ("2026-03-01T17:30:01.250+05:30", "2026-03-01T12:00:01.250Z"),
    ],
)
def test_times_are_told_in_utc(said: str, told: str) -> None:
    found = made(activityDate=said)
    assert (found["updated_at"], reasons(found)) == (told, [])


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"activityDate": "yesterday"}, ("type_mismatch", "/updated_at")),
        ({"activityDate": "2026-03-01T12:00:01"}, ("type_mismatch", "/updated_at")),
        ({"activityDate": None}, ("missing_required", "/updated_at")),
        ({"leadId": None}, ("missing_required", "/marketo_id")),
        ({"marketoGUID": None, "id": None}, ("missing_required", "/event_id")),
        ({"marketoGUID": "\ud800"}, ("invalid_utf8", "")),
    ],
)
def test_what_cannot_be_read_is_left_to_the_contract(more: dict[str, Any], reason: tuple[str, str]) -> None:
    assert reasons(made(LEAD, **more)) == [reason]


def test_only_a_time_with_a_zone_is_a_moment() -> None:
    assert moment(activity()) == datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC)
    bad = ("2026-03-01", "2026-03-01T12:00:01", "0001-01-01T00:00:00+1400", None, 7)
    assert [moment(activity(activityDate=one)) for one in bad] == [None] * len(bad)


def test_a_half_character_is_written_and_stops_nothing() -> None:
    found = {"account_id": "acme", "event_id": "\ud800ä"}
    assert (key(found), value({"email": "\ud800ä"})) == ("acme|?ä".encode(), b'{"email":"\\ud800\\u00e4"}')


def test_the_key_is_tenant_and_event_id_also_where_there_is_none() -> None:
    assert (key(made()), key(made(marketoGUID=None, id=None))) == (b"acme|g4711", b"acme|")
