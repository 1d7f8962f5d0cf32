"""Sent against found: what is lost, what is doubled, what is wrong. Each must be 0.

By key: a valid event and its duplicates share one, of which exactly one record is in silver, and each other
one is a duplicate. A broken event is a dead letter for the reason that was meant, and, once mended, in silver
as well. A record whose key nobody has sent is wrong, and so is one that has two outcomes.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from local.prove_found import Bill, Hour, Record
from local.prove_replay import Mend
from local.prove_send import Sent
from local.traffic import Kind, Way

LOST, DOUBLED, WRONG = "lost", "doubled", "wrong"
_USAGE = "billing.usage.metered"
_HOUR_MS = 3_600_000
_EXAMPLES = 3
Key = tuple[str, str]  # topic, and the record's key


@dataclass
class Verdict:
    """What is amiss, in words with a count and some places, and what became of the rest."""

    amiss: dict[str, Counter[str]] = field(
        default_factory=lambda: {LOST: Counter(), DOUBLED: Counter(), WRONG: Counter()}
    )
    examples: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    outcomes: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    mended: int = 0

    @property
    def accounted(self) -> int:
        """Events that have the outcome that was meant. A sum of outcomes, not `sent` less what is amiss."""
        return sum(self.outcomes.values())

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, doubled or wrong, and everything is accounted for."""
        return not any(self.amiss.values()) and self.accounted == self.sent

    def note(self, kind: str, what: str, count: int, place: str = "") -> None:
        """So many of it; `place` is where one of them is, or should be."""
        if count > 0:
            self.amiss[kind][what] += count
            if place and len(self.examples[what]) < _EXAMPLES:
                self.examples[what].append(place)


def judge(
    sent: Iterable[Sent], found: Iterable[Record], retries: int, mends: tuple[Mend, ...] = ()
) -> Verdict:
    """`retries`: so many requests may have left another record."""
    verdict = Verdict()
    records: defaultdict[Key, list[Record]] = defaultdict(list)
    for record in found:
        records[record.topic, record.key].append(record)
    mended = {(mend.stream, mend.flaw) for mend in mends}
    copies = 0
    for (topic, key), ours in _by_key(sent, verdict).items():
        event = ours[0].event
        judged = _Judged(verdict, event.topic, ours, records.pop((topic, key), []))
        copies += judged.by_key((event.topic, event.flaw) in mended)
    verdict.note(DOUBLED, "records in Kafka that nobody sent again", copies - retries)
    for (topic, _), strange in records.items():
        what = f"{topic}: records of a key that was not acknowledged"
        verdict.note(WRONG, what, len(strange), strange[0].place)
    return verdict


def _by_key(sent: Iterable[Sent], verdict: Verdict) -> dict[Key, list[Sent]]:
    """What must be in Kafka; what the API has kept for itself is accounted for by its answer."""
    events: defaultdict[Key, list[Sent]] = defaultdict(list)
    for one in sent:
        verdict.sent += 1
        event = one.event
        if one.way is Way.HTTP and event.kind in (Kind.BROKEN, Kind.NO_CONSENT):
            verdict.outcomes["refused by the API" if event.kind is Kind.BROKEN else "no_consent"] += 1
        else:
            events[event.topic, f"{event.tenant}|{event.key}"].append(one)
    return events


class _Judged:
    """The events of one key, and its records."""

    def __init__(self, verdict: Verdict, topic: str, sent: list[Sent], found: list[Record]) -> None:
        self.verdict, self.topic, self.sent, self.found = verdict, topic, sent, found
        self.way, self.event = sent[0]
        self.fates = Counter(record.fate for record in found)
        self.place = ", ".join(record.place for record in found) or f"{self.event.tenant}|{self.event.key}"

    def by_key(self, mended: bool) -> int:
        """How many records it has beyond those that were sent, and sent again."""
        self._note(LOST, "not in bronze", len(self.sent) - len(self.found))
        self._note(WRONG, "records with two outcomes", self.fates.pop("two outcomes", 0))
        if self.event.kind is Kind.BROKEN:
            self._broken(mended)
        elif self.event.kind is Kind.NO_CONSENT:
            self.verdict.outcomes["no_consent"] += min(len(self.sent), self.fates.pop("nowhere", 0))
        else:
            self._valid()
        for fate, count in self.fates.items():
            self._note(WRONG, f"{self.event.flaw or self.event.kind} became {fate}", count)
        surplus = max(0, len(self.found) - len(self.sent) - mended)
        if self.way is Way.HTTP:
            return surplus
        self._note(DOUBLED, "records in bronze that were acknowledged once", surplus)
        return 0

    def _valid(self) -> None:
        """One of them in silver; all others are nowhere, as duplicates are."""
        silver, others = self.fates.pop("silver", 0), self.fates.pop("nowhere", 0)
        self._note(LOST, "not in silver", bool(self.found) and silver == 0)
        self._note(DOUBLED, "twice in silver", silver - 1)
        self.verdict.outcomes["silver"] += min(1, silver)
        self.verdict.outcomes["duplicate"] += min(len(self.sent) - 1, others)

    def _broken(self, mended: bool) -> None:
        flaw = self.event.flaw
        dead = self.fates.pop(f"dead {self.event.code}", 0)
        self.verdict.outcomes["dead"] += min(1, dead)
        self._note(LOST, f"{flaw}, neither dead nor in silver", self.fates.pop("nowhere", 0))
        self._note(DOUBLED, f"{flaw}, dead twice", dead - 1)
        if mended:
            silver = self.fates.pop("silver", 0)
            self.verdict.mended += min(1, silver)
            self._note(LOST, f"{flaw}, mended but not in silver", silver == 0)
            self._note(DOUBLED, f"{flaw}, mended and twice in silver", silver - 1)

    def _note(self, kind: str, what: str, count: int) -> None:
        self.verdict.note(kind, f"{self.topic}: {what}", count, self.place)


def usage(sent: Iterable[Sent]) -> Bill:
    """What has to be billed: each event id once, exact."""
    sums: dict[Hour, tuple[Decimal, int]] = {}
    events = {one.event.key: one.event for one in sent if one.event.topic == _USAGE}
    for event in events.values():
        if event.kind in (Kind.VALID, Kind.DUPLICATE):
            said = json.loads(event.body, parse_float=Decimal, parse_int=Decimal)
            began_s = int(said["ts_ms"]) // _HOUR_MS * _HOUR_MS // 1000
            hour = (event.tenant, said["metric"], began_s)
            quantity, count = sums.get(hour, (Decimal(0), 0))
            sums[hour] = (quantity + said["quantity"], count + 1)
    return sums


def judge_bill(verdict: Verdict, wanted: Bill, found: Bill) -> None:
    """Every hour to the last place."""
    for hour in sorted(wanted.keys() | found.keys()):
        (quantity, events), (billed, counted) = (bill.get(hour, (Decimal(0), 0)) for bill in (wanted, found))
        place = "{} {} {}".format(*hour)
        verdict.note(LOST, "billing_usage: events that were not counted", events - counted, place)
        verdict.note(DOUBLED, "billing_usage: events that were counted twice", counted - events, place)
        off = events == counted and quantity != billed
        verdict.note(WRONG, "billing_usage: sums of an hour", off, place)


def judge_sinks(verdict: Verdict, reconciled: Mapping[str, Mapping[str, int]]) -> None:
    """Destinations against the lake, as `jobs reconcile` has found them."""
    for system, counts in reconciled.items():
        verdict.note(LOST, f"{system}: rows missing", counts["missing"])
        verdict.note(DOUBLED, f"{system}: rows too many", counts["extra"])
        verdict.note(WRONG, f"{system}: rows that differ", counts["different"] + counts["older"])
