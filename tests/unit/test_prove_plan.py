"""The proof's plan of faults: made of its seed alone, and fair to every victim."""

from collections import Counter
from itertools import pairwise

import pytest

from local.prove_plan import AWAY_S, GAP_S, REST_S, VICTIMS, How, plan

SEEDS = range(300)


def test_the_same_seed_gives_the_same_faults_and_another_seed_others() -> None:
    assert plan(7, 5) == plan(7, 5)
    assert plan(7, 5) != plan(8, 5)


def test_a_longer_proof_begins_like_a_shorter_one() -> None:
    assert plan(7, 20)[: len(plan(7, 5))] == plan(7, 5)


def test_in_five_minutes_every_victim_has_its_turn() -> None:
    for seed in SEEDS:
        assert {fault.victim for fault in plan(seed, 5)} == set(VICTIMS), seed


def test_no_victim_has_two_turns_more_than_another() -> None:
    for seed in SEEDS:
        turns = Counter(fault.victim for fault in plan(seed, 20))
        assert max(turns.values()) - min(turns.values()) <= 1


@pytest.mark.parametrize("minutes", [1, 2, 5, 60])
def test_faults_come_within_the_time_with_rest_between_them(minutes: float) -> None:
    for seed in SEEDS:
        faults = plan(seed, minutes)
        assert all(GAP_S[0] <= fault.second < minutes * 60 - REST_S for fault in faults)
        assert all(AWAY_S[0] <= fault.away_s <= AWAY_S[1] for fault in faults)
        gaps = [round(later.second - earlier.second, 1) for earlier, later in pairwise(faults)]
        assert all(GAP_S[0] - 0.1 <= gap <= GAP_S[1] + 0.1 for gap in gaps)


def test_most_are_killed_and_some_are_asked() -> None:
    hows = Counter(fault.how for seed in SEEDS for fault in plan(seed, 5))
    assert hows[How.KILL] > hows[How.STOP] > 0
