"""A connector's `only`: what it leaves out is never posted, and is neither open nor lost."""

import pytest

from headwater.errors import SetupError
from headwater.settings import Settings
from local.receiver import Receiver
from tests.integration.outbox_harness import Leads, lead
from tests.integration.webhooks.harness import STATE, Make, due_now, letters, run

DEMOS = {"submission_type": ("demo_request",)}
DEMO = {"submission_type": "demo_request"}


def posted(receiver: Receiver) -> list[str]:
    return sorted(seen["body"]["key"] for seen in receiver.seen())


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        ({}, ["a", "b", "c", "d"]),
        ({"submission_type": ("demo_request",)}, ["a", "b"]),
        ({"submission_type": ("demo_request", "contact")}, ["a", "b", "c"]),
        ({"submission_type": ("demo_request",), "utm_campaign": ("été 2025 'x'",)}, ["b"]),
        ({"utm_campaign": ("brand",)}, ["c"]),
        ({"submission_type": ("Demo_Request", "demo%", "null", "")}, []),
    ],
)
def test_leads_that_have_one_of_the_values_of_each_column_are_posted(
    leads: Leads, make: Make, receiver: Receiver, only: dict[str, tuple[str, ...]], wanted: list[str]
) -> None:
    loop = make(only=only)
    leads.write(
        lead("a", **DEMO),
        lead("b", **DEMO, utm_campaign="été 2025 'x'"),
        lead("c", submission_type="contact", utm_campaign="brand"),
        lead("d"),
    )
    run(loop)
    assert posted(receiver) == wanted
    assert leads.ask(STATE) == [("delivered", 1, 200, None)] * len(wanted)
    assert loop.deliveries.pending() == 0


def test_the_place_in_the_outbox_moves_past_what_is_left_out(leads: Leads, make: Make) -> None:
    loop = make(only=DEMOS)
    leads.write(lead("a"), lead("b"))
    assert loop.step() == 2
    assert loop.step() == 0
    assert leads.ask("SELECT position - (SELECT max(seq) FROM lead_outbox) FROM webhook_connectors") == [(0,)]


def test_a_later_version_that_is_wanted_is_posted(leads: Leads, make: Make, receiver: Receiver) -> None:
    loop = make(only=DEMOS)
    leads.write(lead("a", 1))
    run(loop)
    leads.write(lead("a", 2, **DEMO))
    run(loop)
    assert [seen["body"] for seen in receiver.seen()] == [
        {"email": "a@example.com", "key": "a", "version": 2}
    ]


def test_tenants_and_only_both_hold(leads: Leads, make: Make, receiver: Receiver) -> None:
    loop = make(only=DEMOS, tenants=("globex",))
    leads.write(lead("a", **DEMO), lead("g", tenant="globex", **DEMO), lead("h", tenant="globex"))
    run(loop)
    assert posted(receiver) == ["g"]


def test_what_leads_lacks_when_it_is_announced_is_judged_when_it_is_back(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings
) -> None:
    loop = make(only=DEMOS)
    rows = lead("demo", **DEMO), lead("other")
    leads.write(*rows)
    leads.sink.reset()
    run(loop)
    assert leads.ask(STATE) == [("pending", 1, None, "lead_missing")] * 2
    leads.write(*rows)
    due_now(leads)
    run(loop)
    assert posted(receiver) == ["demo"]
    assert sorted(row[0::3] for row in leads.ask(STATE)) == [("delivered", None), ("gone", "left_out")]
    assert (loop.deliveries.pending(), letters(settings)) == (0, [])


def test_a_narrower_choice_also_holds_for_what_waits(leads: Leads, make: Make, receiver: Receiver) -> None:
    receiver.plan([{"status": 503, "times": 2}])
    leads_of_both = make()
    leads.write(lead("a"), lead("b", **DEMO))
    run(leads_of_both)
    due_now(leads)
    run(make(only=DEMOS))
    assert [seen["body"]["key"] for seen in receiver.seen() if seen["answer"] == 200] == ["b"]
    assert leads.ask(STATE) == [("gone", 2, None, "left_out"), ("delivered", 2, 200, None)]


def test_from_start_posts_what_a_wider_choice_takes_in(leads: Leads, make: Make, receiver: Receiver) -> None:
    first = make(only=DEMOS)
    leads.write(lead("a"), lead("b", **DEMO))
    run(first)
    run(make())
    assert posted(receiver) == ["b"]
    run(make(from_start=True))
    assert posted(receiver) == ["a", "b"]


def test_a_column_that_says_who_someone_is_stops_the_connector(make: Make) -> None:
    with pytest.raises(SetupError, match=r"connectors\.crm\.only: leads cannot be chosen by email"):
        make(only={"email": ("a@example.com",)})
