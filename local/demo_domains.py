"""The demo's other domains, by Kafka alone: what is sent of each, and where it ends.

Of the interactions (agents, pages, usage, Marketo) turns and clicks have a row in PostgreSQL each; what the
CRM tells goes as far as silver.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from headwater.settings import Settings
from local.demo_check import Findings, differences
from local.demo_processes import Child
from local.demo_send import Tally, send_kafka
from local.demo_watch import one_row
from local.traffic import Event, Kind, Mix, Way
from local.traffic_crm import TOPICS, crm
from local.traffic_interactions import interactions
from sources.registry import subject_number

TURNS, CLICKS = "text.agent.turn.completed", "frontend.user.interaction"
_MIX = Mix(no_consent=0)
# What has one row an event; the KPIs are compared with silver by the jobs.
_ARRIVED = {
    TURNS: "SELECT count(*) FROM agent_turns WHERE starts_with(session_id, %(run)s)",
    CLICKS: "SELECT count(*) FROM frontend_analytics WHERE starts_with(event_id, %(run)s)",
}


class Domain:
    """`count` events of one run, and what became of them; with a count of 0 there are none."""

    name: str
    letter: str

    def __init__(self, count: int, run: str, seed: int) -> None:
        self.count = count
        self.run = f"{run}{self.letter}-"
        self.tally = Tally()
        self.valid: Counter[str] = Counter()
        self.seed = seed

    @property
    def options(self) -> list[str]:
        """What `jobs run` is told besides."""
        return ["--domain", self.name, "--trace", self.run] if self.count else []

    def send(self, settings: Settings) -> None:
        """Produce all of them at once."""
        if self.count:
            send_kafka(settings, self._noted(settings), 0, self.tally)

    def _noted(self, settings: Settings) -> Iterator[Event]:
        for event in self.events(settings):
            self.valid[event.topic] += event.kind is Kind.VALID
            yield event

    def events(self, settings: Settings) -> Iterator[Event]:
        """The sample traffic."""
        raise NotImplementedError

    def arrived(self, settings: Settings, jobs: Child) -> tuple[int, int]:
        """How many are where they end, and how many must be."""
        raise NotImplementedError

    def has_arrived(self, settings: Settings, jobs: Child) -> bool:
        """Whether all are where they end."""
        found, wanted = self.arrived(settings, jobs) if self.count else (0, 0)
        return found >= wanted

    def check(self, findings: Findings) -> dict[str, Any]:
        """What the jobs traced of them, and in `findings` what does not add up."""
        traced = findings.traced.get(self.name, {}).get(self.run, {}) if self.count else {}
        if self.count:
            faults = differences(Way.KAFKA, self.tally, traced) if traced else ["were not traced"]
            findings.faults += [f"{self.name}: {fault}" for fault in faults]
        return traced


class Interactions(Domain):
    """Until every turn and click is in PostgreSQL."""

    name, letter = "interactions", "i"

    def events(self, settings: Settings) -> Iterator[Event]:
        return interactions(self.count, run=self.run, seed=self.seed, mix=_MIX)

    def arrived(self, settings: Settings, jobs: Child) -> tuple[int, int]:
        asked = {"run": self.run}
        rows = {topic: int(one_row(settings, query, asked)[0]) for topic, query in _ARRIVED.items()}
        return sum(rows.values()), sum(self.valid[topic] for topic in rows)


class Crm(Domain):
    """Until refine has taken every record."""

    name, letter = "crm", "c"

    def events(self, settings: Settings) -> Iterator[Event]:
        numbers = {topic: subject_number(settings.registry, topic) for topic in TOPICS}
        return crm(self.count, numbers, run=self.run, seed=self.seed, mix=_MIX)

    def arrived(self, settings: Settings, jobs: Child) -> tuple[int, int]:
        batches = [line for line in jobs.events() if line.get("event") == "batch"]
        return sum(line["rows"] for line in batches if line["query"] == "refine.crm"), self.count
