"""The demo's verdict on connectors: sender, ledger and receiver must have the same leads, each once."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from headwater.identity import event_id
from local.demo_connectors import FAULTS, SHARES, Outcome, Shares, outcomes, plan_steps, unsettled, variables
from local.demo_watch import Delivery
from local.traffic import Event, Kind, Way, dump, traffic
from sinks.webhook.only import check_only
from sinks.webhook.schedule import Breaker

RUN = "r-"
TENANTS = {f"{RUN}{number}": "acme" for number in range(4)}
IDS = [event_id("acme", key) for key in TENANTS]


def event(key: str, share: Mapping[str, str], kind: Kind = Kind.VALID) -> Event:
    page = f"https://www.example.com/?utm_campaign={share['utm_campaign'].replace(' ', '%20')}"
    document = {
        "source": share["source"],
        "payload": {"submission_type": share["submission_type"]},
        "context": {"page_url": page},
    }
    return Event(kind, "acme", key, dump(document))


def shares() -> Shares:
    """r-0 and r-1 are for crm, r-2 is for marketing, r-3 for nobody."""
    crm = SHARES["crm"]
    made = Shares()
    events = [event("r-0", crm), event("r-1", crm), event("r-2", SHARES["marketing"])]
    assert list(made.note([*events, event("r-3", crm | {"source": "partner"})]))[:3] == events
    return made


def ledger(*changes: tuple[int, str, int]) -> list[Delivery]:
    """The right one, with some rows' status and attempts changed."""
    rows = {0: ("delivered", 1), 1: ("delivered", 1), 2: ("delivered", 1)}
    rows |= {number: (status, attempts) for number, status, attempts in changes}
    names = ("crm", "crm", "marketing", "crm")
    return [Delivery(names[n], IDS[n], *row) for n, row in rows.items()]


def entry(name: str, number: int, answer: int | None = 200, **changes: Any) -> dict[str, Any]:
    return {"path": f"/{name}", "key": f"{name}:{IDS[number]}", "signed": True, "answer": answer} | changes


RIGHT = [entry("crm", 0), entry("crm", 1), entry("marketing", 2)]


def crm(rows: list[Delivery], seen: list[dict[str, Any]]) -> Outcome:
    return outcomes(shares(), TENANTS, rows, seen)["crm"]


def test_nothing_is_said_when_all_three_agree() -> None:
    found = outcomes(shares(), TENANTS, ledger(), RIGHT)
    assert found == {
        "crm": Outcome(2, 2, 0, 0, 0, 0, 0),
        "marketing": Outcome(1, 1, 0, 0, 0, 0, 0),
        "assistant": Outcome(0, 0, 0, 0, 0, 0, 0),
    }


def test_a_failure_that_was_retried_and_a_repeat_are_told_and_no_fault() -> None:
    found = crm(ledger((0, "delivered", 2), (1, "delivered", 2)),
                [entry("crm", 0, 503), entry("crm", 1, None), *RIGHT])  # fmt: skip
    assert found == Outcome(captured=2, delivered=2, failed=2, retried=2, open=0, dead=0, repeats=1)


def test_what_an_earlier_run_left_open_is_no_fault() -> None:
    old = entry("crm", 0, key=f"crm:{event_id('acme', 'earlier')}")
    assert crm(ledger(), [old, *RIGHT]) == Outcome(2, 2, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("rows", "seen", "fault"),
    [
        (ledger(), RIGHT[1:], "1 leads that the receiver has not had"),
        (ledger(), [entry("crm", 0, 503), *RIGHT[1:]], "1 leads that the receiver has not had"),
        (ledger(), [entry("crm", 0, 401, signed=False), *RIGHT[1:]], "1 requests with a wrong signature"),
        (ledger(), [*RIGHT, entry("crm", 1, key=f"marketing:{IDS[1]}")], "1 requests with a wrong signature"),
        (ledger(), [*RIGHT, entry("crm", 3)], "1 leads that the receiver should not have had"),
        (ledger((3, "delivered", 1)), RIGHT, "1 leads that webhook_deliveries should not have"),
        (ledger()[1:], RIGHT, "1 leads that webhook_deliveries does not call delivered"),
        (ledger((0, "pending", 3)), RIGHT, "1 leads that webhook_deliveries does not call delivered"),
        (ledger((0, "dead", 1)), RIGHT, "1 leads that webhook_deliveries does not call delivered"),
        (ledger((0, "gone", 1)), RIGHT, "1 leads that webhook_deliveries does not call delivered"),
    ],
)  # fmt: skip
def test_every_disagreement_is_named(rows: list[Delivery], seen: list[dict[str, Any]], fault: str) -> None:
    assert any(said.startswith(f"connector crm: {fault}") for said in crm(rows, seen).faults)


def test_a_delivery_that_has_not_ended_is_open_and_not_settled() -> None:
    wanted = shares().wanted(TENANTS)
    assert unsettled(wanted, ledger((0, "dead", 1))) == 0
    assert unsettled(wanted, ledger((0, "pending", 1))) == 1
    assert unsettled(wanted, ledger()[1:]) == 1
    assert crm(ledger((0, "pending", 1), (1, "dead", 1)), RIGHT).open == 1


def test_only_confirmed_valid_leads_are_expected() -> None:
    made = shares()
    list(made.note([event("r-9", SHARES["crm"]), event("r-0", SHARES["crm"], Kind.DUPLICATE)]))
    assert made.wanted(TENANTS)["crm"] == {IDS[0], IDS[1]}


def test_the_sample_traffic_has_leads_for_every_connector_and_for_none_too_many() -> None:
    made, tenants = Shares(), {}
    for number, way in enumerate(Way):
        for one in made.note(traffic(way, 2500, run=f"{RUN}{number}", seed=20)):
            tenants[one.key] = one.tenant
    counts = [len(ids) for ids in made.wanted(tenants).values()]
    assert len(counts) == len(SHARES) == 3
    assert min(counts) > 20
    assert 100 < sum(counts) < 300


def test_the_jobs_get_what_they_need_and_a_choice_that_they_accept() -> None:
    found = variables()
    for name, share in SHARES.items():
        chosen = json.loads(found[f"HEADWATER_CONNECTORS__{name.upper()}__ONLY"])
        check_only(name, chosen)
        assert chosen == {column: [value] for column, value in share.items()}
        assert found[f"HEADWATER_CONNECTORS__{name.upper()}__URL"].endswith(f"/{name}")


def test_the_faults_on_demand_open_no_breaker() -> None:
    breaker = Breaker()
    steps = plan_steps()
    assert sum(step in FAULTS for step in steps) == len(FAULTS)
    for step in steps:
        for _ in range(step.get("times", 1)):
            breaker.note(step not in FAULTS)
            assert breaker.admits(1) == 1
