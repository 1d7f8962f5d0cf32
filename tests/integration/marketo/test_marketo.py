"""Marketo → marketo.leads.delta by real HTTP, PostgreSQL and Kafka: what comes, and up to where."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from headwater.errors import LostError, SetupError, TransientError
from headwater.settings import Settings
from jobs.extract_marketo import OVERLAP
from local.postgres import dsn
from sources.marketo import transport
from sources.marketo.positions import Positions
from tests.integration.marketo.harness import Events, Make, history, ids, position, run
from tests.integration.marketo_server import NOON, MarketoServer

# What comes


def test_every_activity_becomes_one_event_with_the_leads_values_as_they_are_now(
    server: MarketoServer, make: Make, settings: Settings, events: Events
) -> None:
    server.create(7, leadScore=3)
    server.change(7, email="new.canary@example.com")
    server.create(8)
    server.delete(8)
    run(make(fields=("leadScore", "industry")))
    person = {"email": "new.canary@example.com", "first_name": "Zoë", "last_name": "O'Canary"}
    seven = {**person, "company": "Example & Söhne", "attributes": {"leadScore": 3}, "marketo_id": "7"}
    told = [
        {**seven, "event_id": "g1", "change_type": "created", "updated_at": "2026-03-01T12:00:01.000Z"},
        {**seven, "event_id": "g2", "change_type": "updated", "updated_at": "2026-03-01T12:00:02.000Z"},
        {"marketo_id": "8", "event_id": "g3", "change_type": "created",
         "updated_at": "2026-03-01T12:00:03.000Z"},
        {"marketo_id": "8", "event_id": "g4", "change_type": "deleted",
         "updated_at": "2026-03-01T12:00:04.000Z"},
    ]  # fmt: skip
    assert events() == [{**one, "account_id": settings.marketo.account_id} for one in told]


def test_all_pages_are_taken_once_and_the_next_run_takes_only_what_is_new(
    server: MarketoServer, make: Make, settings: Settings, events: Events
) -> None:
    history(server, 25)
    run(make())
    assert ids(events) == server.guids
    assert position(settings, "deletions")[0] == NOON + timedelta(seconds=len(server.guids))
    server.create(100)
    server.delete(3)
    run(make())
    assert ids(events) == server.guids


def test_a_first_start_begins_where_since_says_and_by_default_now(
    server: MarketoServer, make: Make, settings: Settings, events: Events
) -> None:
    history(server)
    run(make(account_id=f"{settings.marketo.account_id}-b", since=None))
    assert events() == []
    run(make(since=NOON + timedelta(seconds=5)))
    assert ids(events) == sorted(guid for guid in server.guids if int(guid[1:]) > 5)


def test_from_start_begins_again_at_since(server: MarketoServer, make: Make, events: Events) -> None:
    history(server)
    run(make())
    run(make(from_start=True, since=NOON + timedelta(seconds=12)))
    assert ids(events) == sorted([*server.guids, *[g for g in server.guids if int(g[1:]) > 12]])
    with pytest.raises(SetupError, match=r"marketo\.since is not set"):
        make(from_start=True, since=None)


def test_ids_are_looked_up_once_a_page_and_by_three_hundred(
    server: MarketoServer, make: Make, events: Events
) -> None:
    server.page_size = 300
    for number in range(1, 302):
        server.create(number)
    server.change(1, company="Other")
    run(make())
    asked = [len(query["filterValues"].split(",")) for query in server.queries["leads"]]
    assert (asked, len(events())) == ([300, 2], 302)


def test_a_query_that_is_too_long_for_an_address_is_posted(
    server: MarketoServer, make: Make, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_LONGEST_QUERY", 150)
    history(server)
    run(make())
    assert ids(events) == server.guids


# Positions


def test_an_invalid_paging_token_begins_again_an_hour_before_the_last_activity(
    server: MarketoServer, make: Make, settings: Settings, events: Events
) -> None:
    history(server)
    run(make())
    server.forget_paging_tokens()
    server.create(100)
    run(make())
    assert sorted({*ids(events)}) == server.guids
    assert len(events()) == 2 * len(server.guids) - 1
    since = datetime.fromisoformat(server.queries["paging_token"][-1]["sinceDatetime"])
    assert since == position(settings, "deletions")[0] - OVERLAP
    run(make())
    assert len(events()) == 2 * len(server.guids) - 1


def test_a_page_that_names_no_next_one_is_looked_at_again(
    server: MarketoServer, make: Make, settings: Settings, events: Events
) -> None:
    server.create(1)
    nameless = {"success": True, "moreResult": False, "result": server.feeds["changes"]}
    server.plan("changes", {"raw": json.dumps(nameless).encode()})
    run(make())
    assert position(settings, "changes") == (NOON, None)
    run(make())
    assert ids(events) == ["g1", "g1"]


def test_more_without_a_way_to_it_is_not_asked_for_again_and_again(
    server: MarketoServer, make: Make, settings: Settings
) -> None:
    run(make())
    _, token = position(settings, "changes")
    server.plan("changes", {"raw": json.dumps(
        {"success": True, "moreResult": True, "nextPageToken": token, "result": []}).encode()})  # fmt: skip
    with pytest.raises(TransientError, match="no way to it"):
        make().step()


def test_a_position_that_a_person_has_set_back_meanwhile_stays_there(make: Make, settings: Settings) -> None:
    make()
    positions = Positions(settings, settings.marketo.account_id or "", "test")
    read = positions.find("changes")
    positions.restart(NOON - timedelta(days=1))
    with pytest.raises(LostError, match="was changed meanwhile"):
        positions.move(read, "token", NOON)
    assert position(settings, "changes") == (NOON - timedelta(days=1), None)
    positions.close()


def test_a_time_that_is_still_to_come_is_no_position(make: Make, settings: Settings) -> None:
    make()
    positions = Positions(settings, settings.marketo.account_id or "", "test")
    positions.move(positions.find("changes"), "token", datetime(2999, 1, 1, tzinfo=UTC))
    assert position(settings, "changes")[0] <= datetime.now(UTC) + timedelta(minutes=1)
    positions.close()


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("writer", "DELETE FROM marketo_positions"),
        ("reader", "SELECT 1 FROM marketo_positions"),
        ("api", "SELECT 1 FROM marketo_positions"),
    ],
)
def test_a_role_is_refused_what_is_not_its_own(database: str, role: str, statement: str) -> None:
    with (
        psycopg.connect(dsn(f"headwater_{role}", f"postgres-{role}", database)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())
