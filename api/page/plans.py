"""A replay's plan and filter as the page tells of them. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Move:
    """A row of gold that would change: its key, and its fields as (name, before, after). A row that is new
    has no before, one that would go has no after."""

    key: str
    kind: str
    fields: tuple[tuple[str, str, str], ...]


def moves(gold: Mapping[str, Any]) -> list[Move]:
    """The rows that a plan lists of one table."""
    return [_move(row) for row in gold.get("moved", [])]


def _move(row: Mapping[str, Any]) -> Move:
    before, after = row["before"] or {}, row["after"] or {}
    kind = "new" if row["before"] is None else "gone" if row["after"] is None else "changed"
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    fields = tuple((name, text(before.get(name)), text(after.get(name))) for name in names)
    return Move(", ".join(f"{name} {text(value)}" for name, value in row["key"].items()), kind, fields)


def text(value: Any) -> str:
    """A value of JSON for people."""
    if value is None:
        return "—"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def pretty(value: Any) -> str:
    """A document of JSON over several lines."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def filter_of(wanted: Mapping[str, Any]) -> dict[str, str]:
    """What was asked for, without the tenant; of ids, how many."""
    shown = {name: value for name, value in wanted.items() if name != "tenant"}
    ids = shown.pop("ids", None)
    if ids:
        shown["ids"] = ids[0] if len(ids) == 1 else f"{len(ids)} by their ids"
    return {name: text(value) for name, value in shown.items()}
