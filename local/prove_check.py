"""All that is held against what was sent: tables, destinations, bills, and what the jobs say themselves."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from headwater.settings import Settings
from local import prove_found as found
from local.demo_check import destinations
from local.prove_replay import MENDS
from local.prove_send import Traffic
from local.prove_verdict import DOUBLED, LOST, WRONG, Verdict, judge, judge_bill, judge_sinks, usage
from local.traffic_crm import TOPICS

_ROWS = re.compile(r"\d+ rows (missing|extra|older|different)\b")
Lines = list[dict[str, Any]]


def check(settings: Settings, traffic: Traffic, drivers: Iterable[Lines], proof: Lines) -> Verdict:
    """`drivers` are the logs of all drivers, `proof` is that of `jobs run --prove`."""
    sent, records = traffic.sent, found.records(settings)
    verdict = judge(sent, records, traffic.retries, MENDS)
    judge_bill(verdict, usage(sent), found.billed(settings))
    judge_sinks(verdict, destinations(proof))
    _told(verdict, settings, {record.at for record in records if record.topic in TOPICS})
    _letters(verdict, settings)
    for what, count in traffic.unexpected.items():
        verdict.note(WRONG, what, count)
    for what, count in _stopped([*drivers, proof]).items():
        verdict.note(WRONG, what, count)
    for what in gate(proof):
        verdict.note(WRONG, what, 1)
    return verdict


def _told(verdict: Verdict, settings: Settings, crm: set[found.Place]) -> None:
    unlogged = crm - found.logged(settings)
    verdict.note(LOST, "crm_events_log: records without a row", len(unlogged), str(min(unlogged, default="")))
    untold, again = found.announced(settings)
    verdict.note(LOST, "lead.captured: leads that were not announced", untold)
    verdict.note(DOUBLED, "lead.captured: leads that were announced again", again)


def _letters(verdict: Verdict, settings: Settings) -> None:
    letters = found.letters(settings)
    by_sinks = sum(count for (stage, _), count in letters.items() if stage.startswith("sink:"))
    replayed = sum(count for (_, status), count in letters.items() if status == "replayed")
    verdict.note(WRONG, "dead letters of destinations: an outage makes none", by_sinks)
    verdict.note(WRONG, "mended letters that are not called replayed", verdict.mended - replayed)


def _stopped(logs: Iterable[Lines]) -> Counter[str]:
    """Queries that waited for a person: no outage may make one do so."""
    lines = [line for log in logs for line in log if line.get("event") == "query_stopped"]
    return Counter(f"{line['query']} stopped: {line['why']}" for line in lines)


def gate(proof: Lines) -> list[str]:
    """What the audit says is off. Rows of destinations are counted by judge_sinks."""
    parts = str(proof[-1].get("error") or "").split("; ") if proof else []
    return [part for part in parts if part and not _ROWS.search(part)]
