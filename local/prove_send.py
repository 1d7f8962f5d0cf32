"""Traffic of every stream at a steady rate, and each event that was acknowledged."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from headwater.settings import Settings
from local.credentials import DEMO_KEYS, read_secret
from local.demo_send import Tally, send_http, send_kafka
from local.demo_watch import api_url
from local.traffic import Event, Kind, Mix, Way, traffic
from local.traffic_crm import TOPICS, crm
from local.traffic_interactions import interactions
from sources.registry import subject_number

# A share of all events each. Of the broken ones some are of a kind that a fix mends.
LEADS_HTTP, LEADS_KAFKA, INTERACTIONS, CRM = "leads by HTTP", "leads by Kafka", "interactions", "crm"
SHARES = {LEADS_HTTP: 0.25, LEADS_KAFKA: 0.15, INTERACTIONS: 0.45, CRM: 0.15}
_MIX = Mix(duplicate=0.08, broken=0.08)
_NO_CONSENT_ASKED = Mix(duplicate=0.08, broken=0.08, no_consent=0)
# With pauses of three seconds: until the API is back, however long that takes.
_TRIES = 200


class Sent(NamedTuple):
    """An event that was acknowledged, and how it was sent."""

    way: Way
    event: Event


@dataclass
class Acknowledged(Tally):
    """A tally that keeps what was acknowledged."""

    events: list[Event] = field(default_factory=list)

    def answer(self, event: Event, given: str, wanted: str) -> None:
        super().answer(event, given, wanted)
        if given == wanted:
            with self.lock:
                self.events.append(event)


class Traffic:
    """What is sent in one proof: `rate` events a second in all, for so many seconds."""

    def __init__(self, settings: Settings, run: str, seed: int, rate: float, seconds: float) -> None:
        self.tallies = {name: Acknowledged() for name in SHARES}
        self.threads = [
            threading.Thread(target=self._send, args=(name,), name=name, daemon=True) for name in SHARES
        ]
        self.faults: list[str] = []
        self._settings, self._run, self._seed = settings, run, seed
        self._rates = {name: rate * share for name, share in SHARES.items()}
        self._counts = {name: max(1, round(rate * seconds)) for name, rate in self._rates.items()}
        # Asked before the registry may be away.
        self._numbers = {topic: subject_number(settings.registry, topic) for topic in TOPICS}

    @property
    def sent(self) -> list[Sent]:
        """Every event that was acknowledged."""
        return [
            Sent(Way.HTTP if name == LEADS_HTTP else Way.KAFKA, event)
            for name, tally in self.tallies.items()
            for event in list(tally.events)
        ]

    @property
    def retries(self) -> int:
        """Requests that were sent again for want of an answer: so many events may be in Kafka once more."""
        return sum(tally.retries for tally in self.tallies.values())

    @property
    def unexpected(self) -> dict[str, int]:
        """Answers that should have been others."""
        return {
            f"{name}: {what}": count
            for name, tally in self.tallies.items()
            for what, count in tally.unexpected.items()
        }

    def _send(self, name: str) -> None:
        try:
            self._send_now(name)
        except Exception as fault:  # the edge of a thread
            self.faults.append(f"{name}: {type(fault).__name__}: {fault}")

    def _send_now(self, name: str) -> None:
        settings, tally, rate = self._settings, self.tallies[name], self._rates[name]
        if name == LEADS_HTTP:
            keys = {tenant: read_secret(secret) for secret, (_, tenant) in DEMO_KEYS.items()}
            send_http(api_url(settings), keys, self._events(name), rate, tally, _TRIES)
        else:
            send_kafka(settings, self._events(name), rate, tally)

    def _events(self, name: str) -> Iterator[Event]:
        count, seed = self._counts[name], self._seed
        if name == INTERACTIONS:
            return interactions(count, run=f"{self._run}i-", seed=seed, mix=_NO_CONSENT_ASKED)
        if name == CRM:
            return crm(count, self._numbers, run=f"{self._run}c-", seed=seed, mix=_NO_CONSENT_ASKED)
        way = Way.HTTP if name == LEADS_HTTP else Way.KAFKA
        return traffic(way, count, run=f"{self._run}{way[0]}-", seed=seed, mix=_MIX)


def answered_by_api(sent: list[Sent]) -> dict[str, int]:
    """What the API has let go no further than itself: bodies refused, leads without consent."""
    refused = sum(one.way is Way.HTTP and one.event.kind is Kind.BROKEN for one in sent)
    discarded = sum(one.way is Way.HTTP and one.event.kind is Kind.NO_CONSENT for one in sent)
    return {"refused": refused, "discarded": discarded}
