"""One dead letter, with all that is known of it."""

from dataclasses import dataclass, replace
from typing import Any

from headwater.settings import Settings
from schemas.letters import LETTERS
from sources.letters.newest import newest
from sources.letters.table import Snapshot
from sources.letters.wanted import Wanted

MAX_REPLAYS = 100


@dataclass(frozen=True)
class Found:
    """A letter as the table has it; how many have its fingerprint, itself included; letters that came of
    sending it again, newest first."""

    letter: dict[str, Any]
    same_fingerprint: int
    replays: list[dict[str, Any]]


def find(settings: Settings, dead_letter_id: str, tenant: str | None = None) -> Found | None:
    """The letter with this id; None when there is none, or, with a tenant, when it is not that tenant's.

    Other letters are counted and named within the same bounds.
    """
    bounds = Wanted(tenant=tenant)
    letter = _whole(Snapshot(settings), replace(bounds, ids=(dead_letter_id,)))
    if letter is None:
        return None
    like = replace(bounds, fingerprint=letter["fingerprint"])
    same = sum(rows.num_rows for rows in Snapshot(settings).scan(like, ["fingerprint"]))
    replays = newest(settings, replace(bounds, replay_of=dead_letter_id), MAX_REPLAYS)
    return Found(letter, same, replays)


def _whole(snapshot: Snapshot, wanted: Wanted) -> dict[str, Any] | None:
    """Payloads are read of the one file that has the letter."""
    for part in snapshot.parts(wanted):
        if any(rows.num_rows for rows in snapshot.rows(part, wanted, ["dead_letter_id"])):
            for rows in snapshot.rows(part, wanted, LETTERS.names):
                for letter in rows.to_pylist():
                    found: dict[str, Any] = letter
                    return found
    return None
