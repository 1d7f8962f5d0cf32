"""Dead letters of a connector, sent again: what becomes of the letter, however soon it is refused again."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headwater.errors import HeadwaterError, SetupError
from headwater.settings import Settings
from jobs import replay_sinks
from jobs.replay import Order, replay
from local.receiver import Receiver
from sinks.webhook.deliveries import Deliveries
from sinks.webhook.overview import Overview
from sources.letters.wanted import Wanted
from tests.integration.outbox_harness import Leads, context, lead
from tests.integration.webhooks.harness import STATE, Make, letters, run

Replay = Callable[..., dict[str, Any]]
MINE = Wanted(stage="sink:webhook-crm")
PLANNED = Order(MINE, why="a test")
DONE = replace(PLANNED, yes=True)


@pytest.fixture
def again(settings: Settings) -> Replay:
    """`jobs replay`: of all the connector's letters, unless it is another order."""

    def send(order: Order = DONE, **sections: Any) -> dict[str, Any]:
        return replay(context(settings.model_copy(update=sections)), order)

    return send


def statuses(settings: Settings) -> list[str]:
    return [letter["status"] for letter in letters(settings)]


def test_what_is_refused_once_more_after_a_replay_is_a_new_letter_again(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings, again: Replay
) -> None:
    receiver.plan([{"status": 404, "times": 3}])
    loop = make()
    leads.write(lead("a"))
    run(loop)
    for _ in range(2):
        assert statuses(settings) == ["new"]
        assert again()["applied"] == {"sent": 1, "refused_again": 0}
        assert statuses(settings) == ["replayed"]
        run(loop)
    assert (statuses(settings), len(receiver.seen())) == (["new"], 3)
    again()
    run(loop)
    assert (statuses(settings), leads.ask(STATE)) == (["replayed"], [("delivered", 1, 200, None)])


def test_a_refusal_that_is_quicker_than_the_replay_is_not_hidden_by_it(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings, again: Replay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    receiver.plan([{"status": 404, "times": 2}])
    loop = make()
    leads.write(lead("a"))
    run(loop)
    retry = Overview.retry

    def retried_and_refused(*arguments: Any) -> int:
        count = retry(*arguments)
        run(loop)
        return count

    monkeypatch.setattr(Overview, "retry", retried_and_refused)
    again()
    assert (statuses(settings), leads.ask(STATE)) == (["new"], [("dead", 1, 404, None)])


@pytest.mark.parametrize("is_done", [False, True])
def test_a_replay_that_was_cut_off_beside_the_retry_is_done_to_the_end(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings, again: Replay,
    monkeypatch: pytest.MonkeyPatch, is_done: bool,
) -> None:  # fmt: skip
    receiver.plan([{"status": 404}])
    loop = make()
    leads.write(lead("a"))
    run(loop)
    number = uuid.UUID(again(PLANNED)["replay_id"])
    retry = Overview.retry

    def cut(*arguments: Any) -> int:
        if is_done:
            retry(*arguments)
        raise HeadwaterError("power cut")

    with monkeypatch.context() as patched, pytest.raises(HeadwaterError, match="power cut"):
        patched.setattr(Overview, "retry", cut)
        again(Order(Wanted(), apply=number))
    for _ in range(2):
        assert again(Order(Wanted(), apply=number))["applied"] == {"sent": 1, "refused_again": 0}
    run(loop)
    assert (statuses(settings), leads.ask(STATE)) == (["replayed"], [("delivered", 1, 200, None)])


def test_a_letter_written_while_its_delivery_is_retried_and_dies_does_not_stand_for_that_death(
    leads: Leads, make: Make, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, settings: Settings,
    again: Replay,
) -> None:  # fmt: skip
    receiver.plan([{"status": 404, "times": 2}])
    loop, other = make(), make()
    leads.write(lead("a"))
    lettered = Deliveries.lettered

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(Deliveries, "lettered", lettered)
        again()
        monkeypatch.setattr(other, "_write_letters", int)
        run(other)
        lettered(*arguments)

    monkeypatch.setattr(Deliveries, "lettered", late)
    run(loop)
    assert (statuses(settings), leads.ask(STATE)) == (["new"], [("dead", 1, 404, None)])


def test_letters_that_cannot_be_posted_any_more_are_refused_before_anything_is_sent(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings, again: Replay
) -> None:
    receiver.plan([{"status": 404, "times": 2}])
    loop = make()
    leads.write(lead("a", 1), lead("b", 2))
    run(loop)
    with pytest.raises(SetupError, match=r"no destination leads\.webhook-crm any more: discard its"):
        again(connectors={})
    leads.connection.execute("UPDATE webhook_deliveries SET connector = 'old' WHERE source_offset = 1")
    with pytest.raises(SetupError, match=r"has no delivery of 1 of the 2 letters: [0-9a-f]{64}: discard"):
        again()
    assert statuses(settings) == ["new"] * 2
    assert {state[0] for state in leads.ask(STATE)} == {"dead"}


def test_many_letters_go_back_some_at_a_time(
    leads: Leads, make: Make, receiver: Receiver, settings: Settings, again: Replay,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(replay_sinks, "_AT_ONCE", 2)
    receiver.plan([{"status": 404, "times": 3}])
    loop = make()
    leads.write(*(lead(f"k{number}", number) for number in range(3)))
    run(loop)
    assert again()["applied"] == {"sent": 3, "refused_again": 0}
    run(loop)
    assert (statuses(settings), {state[0] for state in leads.ask(STATE)}) == (["replayed"] * 3, {"delivered"})
