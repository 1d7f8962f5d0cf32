"""What the proof takes away, and when: the same seed gives the same faults."""

import random
from dataclasses import dataclass
from enum import StrEnum

DRIVER, API = "driver", "api"
VICTIMS = (DRIVER, API, "kafka", "postgres", "elasticsearch", "redis", "registry")
# Seconds from one fault to the next: 270 are enough for one of each. A driver needs half a minute to start.
GAP_S = (20.0, 38.0)
AWAY_S = (1.0, 10.0)
# At the end: what comes in then meets what has just come back.
REST_S = 30.0
_KILLED_SHARE = 0.7


class How(StrEnum):
    """How a victim goes: at once, or with a word before."""

    KILL = "SIGKILL"
    STOP = "stop"


@dataclass(frozen=True)
class Fault:
    """At this second of the traffic, and not before the fault before it is over, the victim goes, and is
    started again when it has been away for so long."""

    second: float
    victim: str
    how: How
    away_s: float

    def __str__(self) -> str:
        return f"{self.second:5.0f} s  {self.how:<7} {self.victim:<13} away for {self.away_s:.1f} s"


def plan(seed: int, minutes: float) -> list[Fault]:
    """The faults in their order. Every victim has had its turn before one of them has another."""
    rng = random.Random(f"{seed}/faults")  # noqa: S311 - a plan that can be repeated, not secrets
    faults: list[Fault] = []
    turns: list[str] = []
    second = _tenths(rng, GAP_S)
    while second < minutes * 60 - REST_S:
        turns = turns or rng.sample(VICTIMS, len(VICTIMS))
        how = How.KILL if rng.random() < _KILLED_SHARE else How.STOP
        faults.append(Fault(second, turns.pop(), how, _tenths(rng, AWAY_S)))
        second = round(second + _tenths(rng, GAP_S), 1)
    return faults


def _tenths(rng: random.Random, between: tuple[float, float]) -> float:
    return round(rng.uniform(*between), 1)
