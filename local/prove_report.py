"""What the proof prints at its end, and writes for programs."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from local.demo_report import table
from local.prove_plan import VICTIMS, Fault, How
from local.prove_verdict import Verdict

_LINES = 12


@dataclass(frozen=True)
class Proven:
    """One proof: the faults that it went through, restarts of what ended by itself, requests sent again."""

    seed: int
    faults: list[Fault]
    restarts: dict[str, int]
    retries: int
    verdict: Verdict
    seconds: float


def report(proven: Proven, logs: Path, out: Path) -> str:
    """The whole text."""
    verdict = proven.verdict
    parts = [f"Headwater proof, seed {proven.seed}", _faults(proven), _outcomes(verdict), _counts(verdict)]
    parts += [_amiss(kind, verdict) for kind, counts in verdict.amiss.items() if counts]
    if verdict.holds:
        parts.append(f"Nothing was lost, doubled or wrong. {proven.seconds:.0f} s in all; {out}")
    else:
        parts.append(f"NOT as it should be ({proven.seconds:.0f} s in all; {out}); logs: {logs}")
    return "\n\n".join(parts)


def write(proven: Proven, out: Path) -> None:
    """The same as JSON."""
    verdict = proven.verdict
    found = {
        "seed": proven.seed,
        "faults": [vars(fault) for fault in proven.faults],
        "restarts": proven.restarts,
        "retries": proven.retries,
        "sent": verdict.sent,
        "accounted_for": verdict.accounted,
        "outcomes": dict(verdict.outcomes),
        "mended": verdict.mended,
        **{kind: counts.total() for kind, counts in verdict.amiss.items()},
        "amiss": verdict.amiss,
        "examples": verdict.examples,
        "seconds": round(proven.seconds, 1),
        "holds": verdict.holds,
    }
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _faults(proven: Proven) -> str:
    rows = []
    for victim in VICTIMS:
        hows = Counter(fault.how for fault in proven.faults if fault.victim == victim)
        rows.append([victim, hows[How.KILL], hows[How.STOP], proven.restarts.get(victim, "-")])
    note = (
        "`fell`: ended by itself with 1, and was started again, as a supervisor would.\n"
        f"{proven.retries:,} requests were sent again for want of an answer."
    )
    return f"{table([('victim', 'killed', 'stopped', 'fell'), *rows])}\n{note}"


def _outcomes(verdict: Verdict) -> str:
    rows = [[name, count] for name, count in sorted(verdict.outcomes.items())]
    return table([("outcome", "events"), *rows, ["mended, and in silver", verdict.mended]])


def _counts(verdict: Verdict) -> str:
    rows = [["sent", verdict.sent], ["accounted for", verdict.accounted]]
    rows += [[kind, counts.total()] for kind, counts in verdict.amiss.items()]
    return table([("proof", "events"), *rows])


def _amiss(kind: str, verdict: Verdict) -> str:
    lines = [f"{kind}:"]
    for what, count in verdict.amiss[kind].most_common(_LINES):
        lines += [f"  {count:,}  {what}", *[f"      {place}" for place in verdict.examples.get(what, ())]]
    return "\n".join(lines)
