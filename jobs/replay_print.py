"""A replay's plan on a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from jobs.letters_print import plain

# Of a gold table, so many rows; the status line has more.
_SHOWN = 10


def show(replay_id: UUID, plan: Mapping[str, Any]) -> None:
    """What would come of it, and how to have it done."""
    for line in lines(plan):
        print(plain(line))
    if plan["sent"]:
        print(f"to do it: python -m jobs replay --apply {replay_id} --why TEXT")


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each thing that would happen."""
    yield f"{plan['letters']} letters, {plan['sent']} would be sent again: {plan['passes']} pass, " + (
        f"{plan['duplicates']} are duplicates of silver, {plan['no_consent']} lack consent, "
        f"{plan['filtered']} are filtered, {plan['back']} go back to the destination that refused them"
    )
    for code, count in plan["fails"].items():
        yield f"  {count} would fail still: {code}"
    for why, count in plan["skipped"].items():
        yield f"  {count} are not sent: {why}"
    for table, count in plan["silver"].items():
        yield f"  {table} gets {count} rows"
    yield from effects(plan)


def effects(plan: Mapping[str, Any]) -> Iterator[str]:
    """What gold and the destinations would have of it."""
    for table, found in plan["gold"].items():
        yield f"  {table}: {found['keys']} rows would be others"
        for row in found["moved"][:_SHOWN]:
            yield f"    {_said(row['key'])}: {_said(row['before'])} → {_said(row['after'])}"
    for table in plan["worked_out_again"]:
        yield f"  {table} is worked out again for these tenants"
    for sink, count in plan["sinks"].items():
        yield f"  {sink} would get {count} rows"


def _said(row: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items()) if row else "nothing"
