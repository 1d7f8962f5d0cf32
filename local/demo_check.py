"""Does what was sent equal what the tables have? The sender's count against what `jobs run --prove` read."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headwater.errors import HeadwaterError
from local.demo_processes import Child
from local.demo_send import Tally
from local.traffic import Kind, Way

_LIMIT_S = 600.0
_ASK_EVERY_S = 0.2
_TELL_EVERY_S = 5.0
_GATE_FAILED = 3


@dataclass
class Findings:
    """What the tables say: outcomes of leads by way, destinations compared, what is not as it should be."""

    outcomes: dict[Way, dict[str, Any]]
    destinations: dict[str, dict[str, int]]
    faults: list[str] = field(default_factory=list)
    # by domain: outcomes by a prefix of keys
    traced: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


def prefix(run: str, way: Way) -> str:
    """What the keys of a run's events begin with."""
    return f"{run}{way[0]}-"


def proof(run: str) -> list[str]:
    """Options of `jobs run` that have it prove what it did, and tell of this run's events."""
    return ["--prove", *[word for way in Way for word in ("--trace", prefix(run, way))]]


def check(job: Child, run: str, tallies: dict[Way, Tally], tell: Callable[[str], None]) -> Findings:
    """Compare with what the job, told to stop, proves. Raises HeadwaterError when the job itself fails."""
    code = _wait(job, tell)
    lines = job.events()
    traced = {line["domain"]: line["prefixes"] for line in lines if line.get("event") == "traced"}
    if code not in (0, _GATE_FAILED) or "leads" not in traced:
        raise HeadwaterError(f"jobs run ended with exit code {code}; {job.tail()}")
    findings = Findings({way: traced["leads"][prefix(run, way)] for way in tallies}, destinations(lines))
    findings.traced = traced
    for way, tally in tallies.items():
        findings.faults += [f"{way}: {fault}" for fault in differences(way, tally, findings.outcomes[way])]
    if code == _GATE_FAILED:
        findings.faults.append(str(lines[-1].get("error")))
    return findings


def _wait(job: Child, tell: Callable[[str], None]) -> int:
    began = told = time.monotonic()
    while (code := job.exit_code) is None:
        now = time.monotonic()
        if now - began > _LIMIT_S:
            raise HeadwaterError(f"jobs run did not end within {_LIMIT_S:.0f} s; {job.tail()}")
        if now - told >= _TELL_EVERY_S:
            told = now
            tell(f"  reading the tables: {len(destinations(job.events()))} destinations compared")
        time.sleep(_ASK_EVERY_S)
    return code


def destinations(lines: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """What `jobs reconcile` has told in its log: counts by destination."""
    found = [line for line in lines if line.get("event") == "reconciled"]
    return {line["system"]: {k: v for k, v in line.items() if isinstance(v, int)} for line in found}


def differences(way: Way, tally: Tally, outcomes: dict[str, Any]) -> list[str]:
    """What does not add up. A submission that was sent again for want of an answer may be in Kafka twice."""
    sent = tally.sent
    wanted = expected(way, tally)
    faults = [f"{count} answers {what}" for what, count in sorted(tally.unexpected.items())]
    for name, count in wanted.items():
        found = outcomes.get(name, 0)
        slack = tally.retries if name in ("bronze", "duplicate") else 0
        if not count <= found <= count + slack:
            faults.append(f"{name} is {found}, expected {count}")
    if way is Way.KAFKA and outcomes["reasons"] != dict(tally.codes):
        faults.append(f"dead letters by reason are {outcomes['reasons']}, expected {dict(tally.codes)}")
    if outcomes.get("unexplained"):
        faults.append(f"{outcomes['unexplained']} records have no outcome")
    parts = sum(outcomes.get(name, 0) for name in ("silver", "duplicate", "dead", "no_consent"))
    kept_out = sent[Kind.BROKEN] + sent[Kind.NO_CONSENT] if way is Way.HTTP else 0
    if not tally.total <= parts + kept_out <= tally.total + tally.retries:
        faults.append(f"{tally.total} were sent, {parts + kept_out} are accounted for")
    return faults


def expected(way: Way, tally: Tally) -> dict[str, int]:
    """Outcomes in the tables. What the API refuses or discards never reaches Kafka's lead.ingest."""
    sent = tally.sent
    direct = way is Way.KAFKA
    return {
        "bronze": tally.total if direct else sent[Kind.VALID] + sent[Kind.DUPLICATE],
        "silver": sent[Kind.VALID],
        "duplicate": sent[Kind.DUPLICATE],
        "dead": sent[Kind.BROKEN] if direct else 0,
        "no_consent": sent[Kind.NO_CONSENT] if direct else 0,
    }
