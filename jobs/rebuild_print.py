"""A rebuild's plan on a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from jobs.letters_print import plain
from jobs.replay_print import effects


def show(rebuild_id: UUID, plan: Mapping[str, Any]) -> None:
    """What would come of it, and how to have it done."""
    for line in lines(plan):
        print(plain(line))
    if plan["moves"]:
        print(f"to do it: python -m jobs rebuild --apply {rebuild_id} --why TEXT")


def lines(plan: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each thing that would happen."""
    yield f"{plan['records']} records of {plan['stream']}: {plan['unchanged']} stay what they are"
    if plan["settled"]:
        yield f"  {plan['settled']} are letters that somebody has replayed or discarded: they stay"
    if plan["waiting"]:
        yield f"  {plan['waiting']} more were not refined yet"
    for move, count in plan["moves"].items():
        yield f"  {count} {move}"
    for code, count in plan["fails"].items():
        yield f"  {count} of those that fail now: {code}"
    for table, found in plan["silver"].items():
        yield f"  {table}: {found['new']} rows come, {found['other']} change, {found['gone']} go"
    yield from effects(plan)
