"""The demo's other streams: events of agents, pages, usage and Marketo, sent to Kafka, and where they end."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from headwater.settings import Settings
from local.demo_check import Findings, differences
from local.demo_send import Tally, send_kafka
from local.demo_watch import one_row
from local.traffic import Event, Kind, Mix, Way
from local.traffic_interactions import interactions

TURNS, CLICKS = "text.agent.turn.completed", "frontend.user.interaction"
_LETTER = "i"
_MIX = Mix(no_consent=0)
# What has one row an event; the KPIs are compared with silver by the jobs.
_ARRIVED = {
    TURNS: "SELECT count(*) FROM agent_turns WHERE starts_with(session_id, %(run)s)",
    CLICKS: "SELECT count(*) FROM frontend_analytics WHERE starts_with(event_id, %(run)s)",
}


class Interactions:
    """`count` events of one run, and what became of them; with a count of 0 there are none."""

    def __init__(self, count: int, run: str, seed: int) -> None:
        self.count = count
        self.run = f"{run}{_LETTER}-"
        self.tally = Tally()
        self.valid: Counter[str] = Counter()
        self._seed = seed

    @property
    def options(self) -> list[str]:
        """What `jobs run` is told besides."""
        return ["--domain", "interactions", "--trace", self.run] if self.count else []

    def send(self, settings: Settings) -> None:
        """Produce all of them at once."""
        send_kafka(settings, self._noted(), 0, self.tally)

    def _noted(self) -> Iterator[Event]:
        for event in interactions(self.count, run=self.run, seed=self._seed, mix=_MIX):
            self.valid[event.topic] += event.kind is Kind.VALID
            yield event

    def arrived(self, settings: Settings) -> dict[str, int]:
        """Rows of this run in PostgreSQL, by the topic that they come from."""
        asked = {"run": self.run}
        return {topic: int(one_row(settings, query, asked)[0]) for topic, query in _ARRIVED.items()}

    def has_arrived(self, settings: Settings) -> bool:
        """Whether every turn and click is there."""
        found = self.arrived(settings) if self.count else {}
        return all(found[topic] >= self.valid[topic] for topic in found)

    def check(self, findings: Findings) -> dict[str, Any]:
        """What the jobs traced of them, and in `findings` what does not add up."""
        traced = findings.traced.get(self.run, {}) if self.count else {}
        if self.count:
            faults = differences(Way.KAFKA, self.tally, traced) if traced else ["were not traced"]
            findings.faults += [f"interactions: {fault}" for fault in faults]
        return traced
