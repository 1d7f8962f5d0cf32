"""What would come of a replay, as people read it, and the digest of all that this depends on.

ops.dead_letters, silver and gold → a report; nothing is written.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headwater.version import CODE_VERSION
from jobs import gold_moves, replay_shadow
from jobs.gold_moves import Moved
from jobs.loops import enabled
from jobs.queries import Context
from jobs.replay_letters import Back, Picked, picked
from jobs.replay_shadow import Verdict
from schemas.gold import BILLING_USAGE
from schemas.patch import Patch
from schemas.tables import DEAD_LETTERS, LEADS, Table
from sinks.registry import SINKS
from sources.letters.wanted import Wanted

# So many rows of a gold table are told one by one.
TOLD = 100


@dataclass(frozen=True)
class Plan:
    """`report` is for people and programs, `digest` tells whether it is still true, `verdicts` are of what is
    sent, in the order in which it is, `back` is what goes back to a destination."""

    report: dict[str, Any]
    digest: str
    verdicts: Sequence[Verdict]
    back: Sequence[Back]


def planned(context: Context, wanted: Wanted, patch: Patch | None) -> Plan:
    """Judge the letters as refine would now. Raises SetupError for a filter that takes too many."""
    found = picked(context.settings, wanted, patch)
    verdicts, silver = replay_shadow.judged(context, found.records)
    rows = {table: new.num_rows for table, new in silver.items()}
    gold = gold_moves.moved(context, silver)
    versions = {record.contract.stream: record.contract.version for record in found.records}
    report = {
        **_outcomes(found, verdicts),
        "silver": {table.full_name: count for table, count in rows.items()},
        "gold": {name: told(moved) for name, moved in gold.items() if moved},
        "worked_out_again": gold_moves.worked_out_again(silver),
        "billing_hours": len(gold.get(BILLING_USAGE.full_name, ())),
        "sinks": _sinks(context, found.back, verdicts, rows, gold),
        "code_version": CODE_VERSION,
        "contract_versions": versions,
    }
    depends = {
        "letters": [(one.record.letter_id, one.outcome, one.codes, one.identity) for one in verdicts],
        "skipped": found.skipped,
        "back": [(one.letter_id, one.destination) for one in found.back],
        "patch": patch.sha256 if patch else None,
        "gold": {name: [(one.key, one.before, one.after) for one in moved] for name, moved in gold.items()},
        "versions": [CODE_VERSION, versions],
    }
    digest = hashlib.sha256(_text(depends).encode()).hexdigest()
    return Plan(plain(report), digest, verdicts, found.back)


def _outcomes(found: Picked, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    outcomes = Counter(one.outcome for one in verdicts)
    fails = Counter(code for one in verdicts if one.outcome == "dead" for code in {*one.codes})
    return {
        "letters": found.letters,
        "sent": len(verdicts) + len(found.back),
        "back": len(found.back),
        "passes": outcomes["silver"],
        "fails": dict(fails.most_common()),
        "duplicates": outcomes["duplicate"],
        "no_consent": outcomes["no_consent"],
        "filtered": outcomes["filtered"],
        "skipped": dict(found.skipped.most_common()),
    }


def told(moved: Sequence[Moved]) -> dict[str, Any]:
    """A gold table's part of a plan: how many rows would be others, and the first of them."""
    some = [{"key": one.key, "before": one.before, "after": one.after} for one in moved[:TOLD]]
    return {"keys": len(moved), "moved": some}


def _sinks(
    context: Context,
    back: Sequence[Back],
    verdicts: Sequence[Verdict],
    silver: Mapping[Table, int],
    gold: Mapping[str, Sequence[Moved]],
) -> dict[str, int]:
    """How many rows each destination would get, by <domain>.<system>."""
    dead = Counter(one.record.contract.domain for one in verdicts if one.outcome == "dead")
    found = Counter(one.destination for one in back)
    for (domain, system), destination in SINKS.items():
        for route in destination.routes:
            rows = silver.get(route.table, 0) + len(gold.get(route.table.full_name, ()))
            found[f"{domain}.{system}"] += dead[domain] if route.table == DEAD_LETTERS else rows
    # Leads that PostgreSQL takes are announced, and posted to the connectors.
    found.update({f"leads.{system}": silver.get(LEADS, 0) for system in enabled(context.settings, "leads")})
    return {name: rows for name, rows in sorted(found.items()) if rows}


def plain(value: Any) -> Any:
    """As JSON has it: times and exact numbers as text."""
    return json.loads(_text(value))


def _text(value: Any) -> str:
    return json.dumps(value, default=str, sort_keys=True)
