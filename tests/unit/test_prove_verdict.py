"""The proof's verdict: it holds only when every event has the outcome that was meant, once."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from local.prove_check import gate
from local.prove_found import Record
from local.prove_plan import plan
from local.prove_replay import MENDS
from local.prove_report import Proven, report, write
from local.prove_send import Sent
from local.prove_verdict import DOUBLED, LOST, WRONG, Verdict, judge, judge_bill, judge_sinks, usage
from local.traffic import Event, Kind, Mix, Way, traffic
from local.traffic_interactions import FLAWS, SHARES, interactions
from schemas.contract import contracts

MIX = Mix(duplicate=0.1, broken=0.1, no_consent=0.05)
Change = Callable[[list[Record]], list[Record]]


def sent_events() -> list[Sent]:
    """Of leads by both ways, and of interactions."""
    by_http = traffic(Way.HTTP, 100, run="h-", seed=1, mix=MIX)
    by_kafka = traffic(Way.KAFKA, 100, run="k-", seed=1, mix=MIX)
    others = interactions(2000, run="i-", seed=1, mix=replace(MIX, no_consent=0))
    return [Sent(Way.HTTP, e) for e in by_http] + [Sent(Way.KAFKA, e) for e in [*by_kafka, *others]]


SENT = sent_events()


def right() -> list[Record]:
    """What the tables have when all went well."""
    seen: set[tuple[str, str]] = set()
    found = []
    for way, event in SENT:
        if way is Way.HTTP and event.kind in (Kind.BROKEN, Kind.NO_CONSENT):
            continue
        key = f"{event.tenant}|{event.key}"
        fates: tuple[str, ...] = ()
        if event.kind is Kind.BROKEN:
            fates = (f"dead {event.code}",)
        elif event.kind is not Kind.NO_CONSENT and (event.topic, key) not in seen:
            fates = ("silver",)
        seen.add((event.topic, key))
        found.append(Record(event.topic, key, fates))
    return found


def of(kind: Kind, found: list[Record]) -> int:
    """Where the first record of such an event is."""
    wanted = next(e for way, e in SENT if e.kind is kind and way is Way.KAFKA and e.topic == "lead.ingest")
    return next(n for n, r in enumerate(found) if r.key == f"{wanted.tenant}|{wanted.key}")


def counts(verdict: Verdict) -> tuple[int, ...]:
    return tuple(verdict.amiss[kind].total() for kind in (LOST, DOUBLED, WRONG))


def without(kind: Kind) -> Change:
    return lambda found: [r for n, r in enumerate(found) if n != of(kind, found)]


def become(kind: Kind, *fates: str) -> Change:
    def change(found: list[Record]) -> list[Record]:
        at = of(kind, found)
        return [*found[:at], found[at]._replace(fates=fates), *found[at + 1 :]]

    return change


def and_again(kind: Kind, *fates: str) -> Change:
    return lambda found: [*found, found[of(kind, found)]._replace(fates=fates)]


def test_it_holds_when_every_event_has_the_outcome_that_was_meant() -> None:
    verdict = judge(SENT, right(), retries=0)
    assert verdict.holds
    assert (verdict.sent, verdict.accounted) == (2200, 2200)
    assert verdict.outcomes == Counter(
        {"silver": 1750, "duplicate": 220, "dead": 210, "no_consent": 10, "refused by the API": 10}
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without(Kind.BROKEN), (1, 0, 0)),
        (without(Kind.NO_CONSENT), (1, 0, 0)),
        (become(Kind.VALID), (1, 0, 0)),
        (become(Kind.BROKEN), (1, 0, 0)),
        (and_again(Kind.VALID, "silver"), (0, 2, 0)),
        (and_again(Kind.BROKEN, "dead malformed_json"), (0, 1, 1)),
        (become(Kind.BROKEN, "dead other"), (0, 0, 1)),
        (become(Kind.BROKEN, "silver"), (0, 0, 1)),
        (become(Kind.NO_CONSENT, "silver"), (0, 0, 1)),
        (become(Kind.VALID, "filtered"), (1, 0, 1)),
        (become(Kind.VALID, "silver", "dead rule:pattern"), (1, 0, 1)),
        (lambda found: [*found, Record("lead.ingest", "acme|stranger", ("silver",))], (0, 0, 1)),
    ],
)
def test_what_is_lost_doubled_or_wrong_is_counted_and_it_does_not_hold(
    change: Change, expected: tuple[int, int, int]
) -> None:
    verdict = judge(SENT, change(right()), retries=0)
    assert counts(verdict) == expected
    assert not verdict.holds


def test_a_request_that_was_sent_again_may_have_left_another_record_but_not_another_row() -> None:
    again = next(r for r in right() if r.key.partition("|")[2].startswith("h-"))
    copy = [*right(), again._replace(fates=())]
    assert judge(SENT, copy, retries=1).holds
    assert counts(judge(SENT, copy, retries=0)) == (0, 1, 0)
    assert counts(judge(SENT, [*right(), again], retries=1)) == (0, 1, 0)


def mended(found: list[Record]) -> list[Record]:
    """With a row in silver for all that the mends make valid."""
    broken = [e for way, e in SENT if way is Way.KAFKA and e.kind is Kind.BROKEN]
    those = {(m.stream, m.flaw) for m in MENDS}
    made = [e for e in broken if (e.topic, e.flaw) in those]
    return [*found, *[Record(e.topic, f"{e.tenant}|{e.key}", ("silver",)) for e in made]]


def test_what_was_mended_is_a_dead_letter_and_in_silver() -> None:
    verdict = judge(SENT, mended(right()), 0, MENDS)
    assert verdict.holds
    assert verdict.mended > 0


def test_what_was_to_be_mended_and_is_not_in_silver_is_lost() -> None:
    verdict = judge(SENT, mended(right())[:-1], 0, MENDS)
    assert any("mended but not in silver" in what for what in verdict.amiss[LOST])
    assert not verdict.holds


def test_what_is_mended_twice_is_doubled() -> None:
    found = mended(right())
    verdict = judge(SENT, [*found, found[-1]], 0, MENDS)
    assert any("twice in silver" in what for what in verdict.amiss[DOUBLED])


def test_a_mend_takes_nothing_but_its_own_flaw() -> None:
    for mend in MENDS:
        flaws = {e.flaw for _, e in SENT if e.topic == mend.stream and e.code == mend.reason}
        assert flaws <= {mend.flaw}
        assert mend.stream in contracts()
        assert mend.stream not in SHARES or FLAWS[mend.flaw].code == mend.reason


# --- billing, destinations, report


def used(key: str, quantity: str, kind: Kind = Kind.VALID, ts_ms: int = 3_600_000) -> Sent:
    body = f'{{"metric": "api_calls", "quantity": {quantity}, "ts_ms": {ts_ms}}}'.encode()
    return Sent(Way.KAFKA, Event(kind, "acme", key, body, topic="billing.usage.metered"))


HOUR = ("acme", "api_calls", 3600)


def test_usage_is_summed_by_the_hour_without_a_float_and_each_event_once() -> None:
    broken = used("d", "5", Kind.BROKEN)
    sent = [
        used("a", "0.1"),
        used("b", "0.2"),
        used("a", "0.1", Kind.DUPLICATE),
        used("c", "7", ts_ms=0),
        broken,
    ]
    assert usage(sent) == {HOUR: (Decimal("0.3"), 2), ("acme", "api_calls", 0): (Decimal(7), 1)}


@pytest.mark.parametrize(
    ("billed", "expected"),
    [
        ({HOUR: (Decimal("0.300000"), 2)}, (0, 0, 0)),
        ({HOUR: (Decimal("0.3"), 1)}, (1, 0, 0)),
        ({HOUR: (Decimal("0.4"), 3)}, (0, 1, 0)),
        ({HOUR: (Decimal("0.300001"), 2)}, (0, 0, 1)),
        ({}, (2, 0, 0)),
    ],
)
def test_a_bill_that_is_off_in_the_last_place_does_not_hold(
    billed: dict[tuple[str, str, int], tuple[Decimal, int]], expected: tuple[int, int, int]
) -> None:
    verdict = Verdict()
    judge_bill(verdict, usage([used("a", "0.1"), used("b", "0.2")]), billed)
    assert counts(verdict) == expected
    assert verdict.holds == (expected == (0, 0, 0))


def test_destinations_that_differ_from_the_lake_do_not_hold() -> None:
    verdict = Verdict()
    judge_sinks(verdict, {"postgres": {"missing": 0, "extra": 0, "older": 0, "different": 0, "found": 9}})
    assert verdict.holds
    judge_sinks(verdict, {"redis": {"missing": 1, "extra": 2, "older": 1, "different": 2}})
    assert counts(verdict) == (1, 2, 3)


def test_of_the_gate_only_what_is_not_counted_already_is_told() -> None:
    error = "reconcile: redis: 2 rows missing (acme k1, …); audit: lead.ingest: 1 records with no outcome"
    assert gate([{"event": "batch"}, {"error": error}]) == ["audit: lead.ingest: 1 records with no outcome"]
    assert gate([{"status": "ok"}]) == gate([]) == []


def test_the_report_names_what_is_amiss_and_where_the_logs_are(tmp_path: Path) -> None:
    verdict = judge(SENT, right()[1:], 0)
    proven = Proven(7, plan(7, 5), {"driver": 1, "api": 0}, 3, verdict, 500.0)
    text = report(proven, tmp_path / "logs", tmp_path / "report.json")
    assert "lead.ingest: not in bronze" in text
    assert f"{SENT[0].event.tenant}|{SENT[0].event.key}" in text
    assert str(tmp_path / "logs") in text
    write(proven, tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert (written["seed"], written["holds"], written["doubled"]) == (7, False, 0)
    assert written["lost"] == verdict.amiss[LOST].total() > 0
    assert written["examples"]["lead.ingest: not in bronze"]
